"""Run several programs side by side, say which one speaks, and end them together.

Each runs under the keeper, so none outlives this process, however it ends.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

KEEPER = Path(__file__).with_name("keeper.py")
GRACE_S = 15
POLL_S = 0.1


class ChildEnded(RuntimeError):
    """A program that should run for as long as we do has ended by itself."""


class Stopped(BaseException):
    """Somebody asked us to end, by Ctrl-C or a signal."""


class Children:
    """The programs by name, each started as soon as it is added."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start one; every line it prints is printed behind its name."""
        keeper = [sys.executable, "-S", "-E", str(KEEPER), "--parent", str(os.getpid())]
        process = subprocess.Popen(  # noqa: S603  # our own command line
            [*keeper, "--grace", str(GRACE_S), "--", *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us; we end them in order
        )
        self._running[name] = process
        assert process.stdout is not None  # noqa: S101  # we asked for a pipe
        reader = threading.Thread(target=_relay, args=(name, process.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)

    def check(self) -> None:
        """Raises ChildEnded if one is not running any more."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise ChildEnded(f"{name} ended by itself with exit code {code}.")

    def wait_for_port(self, port: int, *, timeout_s: float) -> None:
        """Return when something listens on the port. Raises ChildEnded; TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(POLL_S)
        raise TimeoutError(f"Nothing listens on port {port} after {timeout_s:g} s.")

    def watch(self) -> None:
        """Stay until one ends; then raise ChildEnded."""
        while True:
            self.check()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End all of them at once and wait; asked a second time, without grace."""
        self._terminate()
        again = {number: signal.signal(number, self._hurry) for number in _SIGNALS}
        try:
            for process in self._running.values():
                process.wait()
            for reader in self._readers:
                reader.join(timeout=1)
        finally:
            for number, handler in again.items():
                signal.signal(number, handler)

    def _terminate(self) -> None:
        for process in self._running.values():
            process.terminate()

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        self._terminate()


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into Stopped."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _relay(name: str, lines: IO[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{name:<8}| {line.rstrip()}\n")
        sys.stdout.flush()
