"""Load the whole service with users and judge how fast it answers: see docs/benchmarks.md.

./run load [--users 10,50,100] [--database sqlite|postgres] [--seconds S] [--web N] [--json FILE]
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from config.children import Stopped, stopping_on_signals
from config.embedded import embedded_postgres, embedded_valkey


def main(arguments: list[str]) -> int:
    """Return 0 if every bound held, 1 if one was missed, 2 for a wrong call."""
    options = parser().parse_args(arguments)
    try:
        with stopping_on_signals():
            return _run(options)
    except Stopped as reason:
        print(f"Stopped ({reason}).")
        return 130


def parser() -> argparse.ArgumentParser:
    """Return what reads the options."""
    words = argparse.ArgumentParser(prog="./run load", description="Load it, then judge.")
    words.add_argument("--users", type=_numbers, default=[10, 50, 100], help="10,50,100")
    words.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    words.add_argument("--seconds", type=float, default=30.0, help="of each level (30)")
    words.add_argument("--web", type=int, default=2, help="web processes (2)")
    words.add_argument("--rows", type=int, default=50_000, help="of history and audit (50000)")
    words.add_argument("--json", type=Path, help="also write everything to this file")
    return words


def _numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 1:
        raise ValueError
    return found


def _run(options: argparse.Namespace) -> int:
    with _servers(options.database) as folder:
        import django

        django.setup()
        from tests.load.running import run

        return run(options, folder, say=lambda line: print(line, flush=True))


@contextmanager
def _servers(database: str) -> Iterator[Path]:
    """Start what the run needs and put it into the environment before Django reads it."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="latchkey-load-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in [*os.environ]:
            if name.startswith(("LATCHKEY_", "REDIS_", "Q_CLUSTER")):
                del os.environ[name]
        urls = {"DATABASE_URL": f"sqlite:///{folder / 'load.sqlite3'}", "REDIS_URL": ""}
        if database == "postgres":
            urls["DATABASE_URL"] = stack.enter_context(embedded_postgres())
            urls["REDIS_URL"] = stack.enter_context(embedded_valkey())
        # The settings that ./run has, so that what is measured is what people run.
        settings = {"DJANGO_SETTINGS_MODULE": "config.settings.local"}
        settings |= {"LATCHKEY_DATA_DIR": str(folder / "data"), "LATCHKEY_LOG_LEVEL": "WARNING"}
        os.environ.update(urls | settings)
        yield folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
