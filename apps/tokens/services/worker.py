"""A worker: takes what can start, runs it as coroutines, and stops taking when told to.

One drain takes work for about a minute and then finishes what it holds, so that the queue's own
time-out never meets a running login: its signal would cancel every login of the process.
"""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError

from apps.common import detached
from apps.common.clock import database_now, monotonic
from apps.tokens.connectors.http import hang_up
from apps.tokens.models import WorkerProcess
from apps.tokens.services import admission, execution, hints, recovery, reports, site_health
from apps.tokens.services.owner import STOP_TAKING, Owner, host_name
from apps.tokens.services.threads import DatabaseThreads

log = structlog.get_logger(__name__)

# After the last login a drain waits this long for more: the next request starts sooner.
LINGER_S: Final = 5.0
BEATS_A_LEASE: Final = 4
SWEEP_EVERY_S: Final = 5.0


@dataclass(slots=True)
class DrainReport:
    """What one drain did."""

    logins: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Drain:
    """One round of taking and running work in this process."""

    owner: Owner
    queues: Sequence[str]
    threads: DatabaseThreads
    slots: int
    take_for_s: float
    linger_s: float = LINGER_S
    running: set[asyncio.Task[None]] = field(default_factory=set)
    report: DrainReport = field(default_factory=DrainReport)
    stopping: bool = False

    def stop(self) -> None:
        """Take nothing more; what runs is finished."""
        self.stopping = True

    async def run(self) -> DrainReport:
        """Take and run work until the time is up or there is none; then finish what runs."""
        begun = idle_since = monotonic()
        helpers = [asyncio.create_task(job()) for job in (self._beat, self._sweep, self._probe)]
        try:
            while True:
                if await self._take() or self.running:
                    idle_since = monotonic()
                now = monotonic()
                if now - begun >= self.take_for_s or now - idle_since >= self.linger_s:
                    self.stopping = True
                if self.stopping and not self.running:
                    break
                await self._pause()
        finally:
            for task in (*helpers, *self.running):
                task.cancel()
            await asyncio.gather(*helpers, *self.running, return_exceptions=True)
        self.report.seconds = monotonic() - begun
        return self.report

    async def _take(self) -> int:
        """Start as many logins as there are slots and work; return how many."""
        taken = 0
        while not self.stopping and len(self.running) < self.slots and self.owner.stands():
            term = self.owner.term
            try:
                claims = await self.threads.run(
                    admission.claim_some,
                    owner_id=self.owner.id,
                    queues=self.queues,
                    most=self.slots - len(self.running),
                )
            except DatabaseError as error:
                log.warning("admission_failed", error=type(error).__name__)
                break
            if not claims:
                break
            for claim in claims:
                self._start(claim, term=term)
            taken += len(claims)
        return taken

    def _start(self, claim: admission.Claim, *, term: int) -> None:
        task = asyncio.create_task(
            execution.run(claim, owner=self.owner, threads=self.threads, term=term)
        )
        self.running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self.report.logins += 1
        if not task.cancelled() and (error := task.exception()):
            # The result could not be written; the attempt stays open until its deadline.
            log.error("login_not_recorded", error=type(error).__name__)

    async def _pause(self) -> None:
        """Wait for a login to finish, or for the next look at the queue."""
        poll_s = settings.LATCHKEY_POLL_S
        if self.running:
            await asyncio.wait(self.running, timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(poll_s)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.owner.lease_s / BEATS_A_LEASE)
            try:
                alive = await self.threads.run(self.owner.beat)
            except DatabaseError as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
                continue
            if not alive:
                log.error("worker_was_declared_dead", owner=str(self.owner.id))
                self.stopping = True

    async def _probe(self) -> None:
        """Ask sites about reported tokens, and broken sites about themselves."""
        while True:
            with suppress(DatabaseError):
                while await reports.probe_one(self.threads):
                    continue
                while await site_health.ask_one(self.threads):
                    continue
            await asyncio.sleep(settings.LATCHKEY_POLL_S)

    async def _sweep(self) -> None:
        while True:
            with suppress(DatabaseError):
                await self.threads.run(recovery.sweep)
            await asyncio.sleep(SWEEP_EVERY_S)


def drain(cluster: str) -> DrainReport:
    """Serve a cluster's queues from this process for a while; blocks until done.

    Returns at once where enough drains of this host serve the cluster already.
    """
    if _enough_drains(cluster):
        return DrainReport()
    owner = Owner.take(cluster=cluster)
    threads = DatabaseThreads(name="drain")
    try:
        return detached.run(_drain(owner, threads, cluster))
    finally:
        threads.close()
        owner.end()


async def _drain(owner: Owner, threads: DatabaseThreads, cluster: str) -> DrainReport:
    work = Drain(
        owner=owner,
        queues=hints.queues_of(cluster),
        threads=threads,
        slots=settings.LATCHKEY_SLOTS,
        take_for_s=settings.LATCHKEY_DRAIN_S,
    )
    with _stops_when_told(work), _hangs_up_when_it_was_away(owner):
        return await work.run()


@contextmanager
def _stops_when_told(work: Drain) -> Iterator[None]:
    """While inside, STOP_TAKING and SIGTERM mean: take nothing more and finish."""
    loop = asyncio.get_running_loop()
    signals = (STOP_TAKING, signal.SIGTERM)
    try:
        for number in signals:
            loop.add_signal_handler(number, work.stop)
    except (NotImplementedError, RuntimeError, ValueError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def _hangs_up_when_it_was_away(owner: Owner) -> Iterator[None]:
    """While inside: a process that was stopped past its lease sends nothing more.

    Not even what passed its last look at the lease before it was stopped. Python runs a handler
    before the next step of the program; the event loop's own would come after that.
    """

    def back(*_: object) -> None:
        if not owner.stands():
            hang_up()

    try:
        before = signal.signal(signal.SIGCONT, back)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


def _enough_drains(cluster: str) -> bool:
    """Say whether all worker processes but one are draining: one stays free for other tasks."""
    live = WorkerProcess.objects.filter(
        host=host_name(), cluster=cluster, ended_at=None, lease_until__gt=database_now()
    )
    return live.count() >= max(1, settings.LATCHKEY_WORKERS - 1)
