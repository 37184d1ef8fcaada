"""What supervisors of this installation have started on this host, and nobody sees to any more.

A supervisor or a keeper that is killed leaves its cluster; the next supervisor looks for both.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import psutil
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

# By these a keeper of this installation is told from one of another that runs the same program.
INSTALLATION: Final = ("DATABASE_URL", "DATABASE_URL_FILE", "LATCHKEY_DATA_DIR")
# In the environment of what was started under a keeper, and must not run without one.
KEPT: Final = "LATCHKEY_KEPT"


class LeftKeeper(psutil.Process):
    """A keeper whose supervisor was killed, used like a child of one's own."""

    def poll(self) -> int | None:
        """Return None while it runs."""
        with suppress(psutil.NoSuchProcess):
            if self.is_running() and self.status() != psutil.STATUS_ZOMBIE:
                return None
        return 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        try:
            super().wait(timeout)
        except psutil.TimeoutExpired:
            raise subprocess.TimeoutExpired("keeper", timeout or 0.0) from None
        return 0


def end_unkept() -> None:
    """End what a killed keeper has left, whoever had started it; what it was doing is recovered.

    Nobody else would: its group is known to the keeper alone until a supervisor has looked.
    """
    groups, kept = set[int](), set[int]()
    for process, is_keeper in _own_clusters():
        with suppress(psutil.Error, ProcessLookupError):
            if is_keeper:
                kept |= {child.pid for child in process.children()}
            else:
                groups.add(os.getpgid(process.pid))
    for group in groups - kept:
        log.warning("cluster_without_keeper", group=group)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def left_behind() -> list[tuple[str, LeftKeeper]]:
    """Return the clusters whose supervisor is gone, by name, with their keepers."""
    found = []
    for process, is_keeper in _own_clusters():
        with suppress(psutil.Error):
            if is_keeper and f"--parent={process.ppid()}" not in process.cmdline():
                keeper, name = LeftKeeper(process.pid), process.environ()["Q_CLUSTER_NAME"]
                log.info("cluster_left_behind", cluster=name, pid=keeper.pid)
                found.append((name, keeper))
    return found


def _own_clusters() -> Iterator[tuple[psutil.Process, bool]]:
    """Yield the processes of clusters that supervisors of this installation started on this host.

    With each, whether it is a keeper.
    """
    keeper, manage = (str(settings.BASE_DIR / file) for file in ("config/keeper.py", "manage.py"))
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if words[-2:] == [manage, "qcluster"] and _is_ours(process.environ()):
                yield process, keeper in words


def _is_ours(told: Mapping[str, str]) -> bool:
    return KEPT in told and all(told.get(name) == os.environ.get(name) for name in INSTALLATION)
