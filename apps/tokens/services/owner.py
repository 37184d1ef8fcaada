"""This process as the owner of permits: its row, its lease, its heartbeat.

The lease is measured here with a clock that goes on while the process is stopped, and counted
from before the heartbeat was sent: this process believes in its lease for less long than the
database does, never longer.
"""

import os
import signal
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import psutil
from django.conf import settings

from apps.common.clock import database_now
from apps.tokens.models import AdmissionLimits, WorkerProcess

DRAINED: Final = "drained"
# Tells a drain to take nothing more. A process that is not draining ignores it: SIGTERM would kill
# it while it reads the queue's pipe, and whoever waits for that pipe would wait for ever.
STOP_TAKING: Final = signal.SIGURG
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@cache
def host_name() -> str:
    """Return the name by which supervisors know which processes they can see.

    Process ids mean something only inside one boot and one pid namespace, so both are part of
    it: two containers with the same host name do not take each other for dead.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{space}"


def ticking_s() -> float:
    """Return seconds on a clock that counts while the process, or the machine, sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class Owner:
    """The permits' owner; one for each process. `lease_ends_s` is on `ticking_s`' clock.

    `term` grows when a lease was over before it was renewed. A login may send only in the term
    it began in: while this process was away, its permits may have been given to others.
    """

    id: UUID
    lease_s: float
    lease_ends_s: float = field(default=0.0)
    term: int = field(default=0)

    @classmethod
    def take(cls, *, cluster: str) -> "Owner":
        """Return this process's owner with a fresh lease; its row is made once a process."""
        limits = AdmissionLimits.current()
        owner = _owners.get(os.getpid())
        if owner is not None and owner.reopen(lease_s=limits.lease_s):
            return owner
        owner = cls(id=uuid4(), lease_s=limits.lease_s)
        begun, at = ticking_s(), database_now()
        WorkerProcess.objects.create(
            id=owner.id,
            host=host_name(),
            pid=os.getpid(),
            process_started_at=psutil.Process().create_time(),
            cluster=cluster,
            slots=settings.LATCHKEY_SLOTS,
            started_at=at,
            lease_until=at + timedelta(seconds=limits.lease_s),
        )
        owner.lease_ends_s = begun + limits.lease_s
        _owners[os.getpid()] = owner
        return owner

    def reopen(self, *, lease_s: float) -> bool:
        """Begin again after `end`; False if the row is gone or was declared dead."""
        begun = ticking_s()
        self.lease_s = lease_s
        alive = WorkerProcess.objects.filter(pk=self.id, ended_how=DRAINED).update(
            ended_at=None,
            ended_how="",
            lease_until=database_now() + timedelta(seconds=lease_s),
        )
        self.lease_ends_s = begun + lease_s if alive else 0.0
        return bool(alive)

    def stands(self, *, term: int | None = None) -> bool:
        """Say whether this process may still send something for its logins (of this term)."""
        return ticking_s() < self.lease_ends_s and term in (None, self.term)

    def beat(self) -> bool:
        """Renew the lease of all permits with one UPDATE.

        False if the process was declared dead meanwhile; then its lease is over for good.
        """
        begun = ticking_s()
        alive = WorkerProcess.objects.filter(pk=self.id, ended_at=None).update(
            lease_until=database_now() + timedelta(seconds=self.lease_s)
        )
        if ticking_s() >= self.lease_ends_s:
            self.term += 1
        self.lease_ends_s = begun + self.lease_s if alive else 0.0
        return bool(alive)

    def end(self) -> None:
        """Note that the process holds nothing any more."""
        self.lease_ends_s = 0.0
        WorkerProcess.objects.filter(pk=self.id, ended_at=None).update(
            ended_at=database_now(), ended_how=DRAINED
        )


# By process id, so that a forked child never believes to be its parent.
_owners: dict[int, Owner] = {}
