"""`python -m apps.tokens.faultlab`: the lab without Django, for tests and benchmarks."""

import argparse
import os
import sys

import orjson

from apps.tokens.faultlab import server


def announce(url: str) -> None:
    """Say where the lab is: one line for programs, one for people."""
    line = orjson.dumps({"url": url}).decode()
    sys.stdout.write(f"{line}\nThe fault lab serves on {url}/. End it with Ctrl-C.\n")
    sys.stdout.flush()


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; return 0, or 2 where the lab refuses to start."""
    parser = argparse.ArgumentParser(prog="python -m apps.tokens.faultlab")
    parser.add_argument("--host", default=server.DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=server.DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--demo", action="store_true", help="start with the site court_zxfw")
    options = parser.parse_args()
    settings = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if settings.rpartition(".")[2] == "production":
        sys.stderr.write(f"The fault lab does not run with {settings}.\n")
        return 2
    try:
        server.run(options.host, options.port, demo=options.demo, announce=announce)
    except (server.HostRefused, OSError, OverflowError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
