"""The service under test as real processes, on one or two hosts; and its parts by what they do."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from apps.tokens.models import ClusterBeat, LoginAttempt, WorkerProcess
from tests.chaos.namespaces import Namespace
from tests.integration import processes
from tests.integration.processes import ServerProcess

ROOT: Final = Path(__file__).resolve().parents[2]
READY_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 25.0


@dataclass(slots=True)
class Host:
    """One host's supervisor and all below it; in a namespace of its own if there is one."""

    name: str
    namespace: Namespace | None = None
    workers: ServerProcess | None = None

    def supervisor(self) -> psutil.Process | None:
        return _child(self.workers.process.pid if self.workers else 0)

    def keepers(self) -> list[psutil.Process]:
        supervisor = self.supervisor()
        return _children(supervisor.pid) if supervisor else []

    def mains(self) -> list[psutil.Process]:
        return [main for keeper in self.keepers() for main in _children(keeper.pid)]

    def sentinels(self) -> list[psutil.Process]:
        return [sentinel for main in self.mains() for sentinel in _children(main.pid)]

    def parts(self) -> list[psutil.Process]:
        """Return a sentinel's children that make no logins now."""
        busy = {row.pid for row in busy_workers()}
        everything = [part for sentinel in self.sentinels() for part in _children(sentinel.pid)]
        return [part for part in everything if part.pid not in busy]


@dataclass(slots=True)
class Service:
    """Web and workers. Everything is told the same environment and logs into `folder`."""

    folder: Path
    environment: dict[str, str]
    hosts: list[Host]
    port: int = field(default_factory=processes.free_port)
    web: ServerProcess | None = None
    _starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start everything and return when a task has come back through each host's queue."""
        self.web = self._launch(
            [
                *("-m", "uvicorn", "config.asgi:application", "--app-dir", str(ROOT)),
                *("--port", str(self.port), "--timeout-graceful-shutdown", "2"),
                *("--log-level", "warning"),
            ]
        )
        for host in self.hosts:
            self.start_workers(host)
        self.web.wait_until_ready("/livez")
        end = time.monotonic() + READY_LIMIT_S
        while ClusterBeat.objects.exclude(answered_at=None).count() < len(self.hosts):
            if time.monotonic() > end:
                raise RuntimeError(f"The workers did not start:\n{self.tail()}")
            time.sleep(0.1)

    def start_workers(self, host: Host) -> None:
        """Start a host's supervisor, as systemd does where it has ended."""
        prefix = host.namespace.enter if host.namespace else []
        host.workers = self._launch([str(ROOT / "manage.py"), "workers"], prefix)

    def stop(self) -> list[str]:
        """Stop all, politely first; return what outlived it."""
        for host in self.hosts:
            if supervisor := host.supervisor():
                send(supervisor, signal.SIGTERM)
        end = time.monotonic() + STOP_LIMIT_S
        while time.monotonic() < end and any(host.supervisor() for host in self.hosts):
            time.sleep(0.1)
        slow = [f"supervisor of {host.name}" for host in self.hosts if host.supervisor()]
        for server in [host.workers for host in self.hosts] + [self.web]:
            if server:
                server.stop()
        while time.monotonic() < end and self._ours():
            time.sleep(0.1)
        left = self._ours()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return slow + [f"{process.pid} {' '.join(process.info['cmdline'])}" for process in left]

    def tail(self) -> str:
        """Return the end of the newest log."""
        logs = sorted(self.folder.glob("*/server.log"), key=lambda log: log.stat().st_mtime)
        return logs[-1].read_text(errors="replace")[-3000:] if logs else ""

    def _ours(self) -> list[psutil.Process]:
        mark = self.environment["LATCHKEY_DATA_DIR"]
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                if process.pid != os.getpid() and (
                    process.environ().get("LATCHKEY_DATA_DIR") == mark
                ):
                    found.append(process)
        return found

    def _launch(self, arguments: list[str], prefix: list[str] | None = None) -> ServerProcess:
        self._starts += 1
        folder = self.folder / f"process-{self._starts}"
        folder.mkdir()
        command = [*(prefix or []), sys.executable, *arguments]
        return processes.start(command, port=self.port, folder=folder, environment=self.environment)


def busy_workers() -> list[WorkerProcess]:
    """Return the worker processes that are making logins now."""
    pks = LoginAttempt.objects.filter(outcome="").values_list("owner_id", flat=True)
    return list(WorkerProcess.objects.filter(pk__in=list(pks), ended_at=None))


def send(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _child(pid: int) -> psutil.Process | None:
    return next(iter(_children(pid)), None) if pid else None
