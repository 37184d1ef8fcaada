"""Start a server on a free loopback port, wait for it, stop it.

Each runs under the keeper, so none outlives the tests, however they end.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

KEEPER: Final = Path(__file__).resolve().parents[2] / "config" / "keeper.py"
READY_LIMIT_S: Final = 60.0
GRACE_S: Final = 5.0


class ServerDied(RuntimeError):
    """A server ended, or did not answer in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server; `process` is the keeper in front of it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """The address without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, path: str) -> None:
        """Return when `path` answers below 500. Raises ServerDied."""
        deadline = time.monotonic() + READY_LIMIT_S
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise ServerDied(f"The server ended:\n{self.log_tail()}")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(self.url + path).status_code < 500:
                        return
                time.sleep(0.05)
        raise ServerDied(f"The server was not ready in time:\n{self.log_tail()}")

    def stop(self) -> None:
        """End the server and all it started: politely, and after five seconds not."""
        self.process.terminate()
        self.process.wait(GRACE_S + 10)

    def log_tail(self) -> str:
        """Return the last 2,000 characters of what the server said."""
        return self.log.read_text(errors="replace")[-2000:]


def start(
    command: Sequence[str | Path],
    *,
    port: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start `command` in `folder`, its output in `server.log` there."""
    log = folder / "server.log"
    # Nothing of our own environment but the path: no proxy, no settings, no secrets.
    clean = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"}
    keeper = [sys.executable, "-S", "-E", str(KEEPER), "--parent", str(os.getpid())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*keeper, "--grace", str(GRACE_S), "--", *(str(part) for part in command)],
            cwd=folder,
            env={**clean, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ServerProcess(process=process, port=port, log=log)


def free_port() -> int:
    """Return a loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
