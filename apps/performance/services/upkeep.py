"""Running the steps of upkeep: one run at a time, and what it came to.

The lease is a row, renewed while its holder lives. A holder that was killed loses it at once to
a run on the same host, which can see that the process is gone, and after `LEASE_S` to any other.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psutil
import structlog
from django.db import DatabaseError, IntegrityError, transaction
from django.utils.module_loading import autodiscover_modules

from apps.common.arguments import folder
from apps.common.clock import database_now
from apps.common.database import fresh_connections
from apps.common.errors import BusinessRuleViolated, ValidationFailed
from apps.common.optimization import Step, StepOptions, StepReport, run_step, steps
from apps.performance.models.upkeep import UpkeepLease
from apps.tokens.models import WorkerProcess
from apps.tokens.services import recovery
from apps.tokens.services.owner import host_name

log = structlog.get_logger(__name__)

NAME: Final = "upkeep"
LEASE_S: Final = 60.0
# Looking changes nothing, so it needs no lease and never waits for a run that takes hours.
LOOKING: Final = frozenset({"health_check"})

OnStep = Callable[[Step], None]
OnReport = Callable[[StepReport], None]


class AlreadyRunning(BusinessRuleViolated):
    """Another run of the upkeep holds the lease."""

    code = "upkeep_running"


@dataclass(slots=True)
class Lease:
    """This run's hold on the upkeep; `lost` once somebody else has taken it over."""

    row: UpkeepLease
    lost: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def renew(self) -> bool:
        """Prolong the lease; False, for good, if it is somebody else's by now."""
        mine = UpkeepLease.objects.filter(name=self.row.name, holder=self.row.holder)
        if not mine.update(lease_until=database_now() + timedelta(seconds=LEASE_S)):
            self.lost.set()
        return not self.lost.is_set()

    def keep(self) -> None:
        """Renew until the run is over; for a thread of its own."""
        while not self.over.wait(LEASE_S / 3):
            try:
                with fresh_connections():
                    if not self.renew():
                        return
            except DatabaseError as error:
                log.warning("upkeep_lease_not_renewed", error=type(error).__name__)


def discover() -> tuple[Step, ...]:
    """Return the steps of all apps, in the order in which they run."""
    autodiscover_modules("optimization")
    return steps()


def choose(*, flags: Collection[str], only: Collection[str] = ()) -> tuple[Step, ...]:
    """Return the steps of these flags, or of `only` these names. Raises ValidationFailed."""
    known = discover()
    if unknown := set(only) - {step.name for step in known}:
        raise ValidationFailed(f"There is no step {', '.join(sorted(unknown))}.")
    if unknown := set(flags) - {step.flag for step in known}:
        raise ValidationFailed(f"No step has the flag {', '.join(sorted(unknown))}.")
    if only and flags:
        return tuple(step for step in known if step.name in only and step.flag in flags)
    return tuple(step for step in known if step.name in only or step.flag in flags)


def run(
    chosen: Collection[Step],
    options: StepOptions,
    *,
    on_step: OnStep | None = None,
    on_report: OnReport | None = None,
) -> list[StepReport]:
    """Run the steps in order; one that fails does not stop the others.

    Raises AlreadyRunning before the first where another run holds the lease. Where no lease is to
    be had because the database is down, the steps that look say what they see all the same.
    """
    looking = [step for step in chosen if step.flag in LOOKING]
    if options.dry_run or len(looking) == len(chosen):
        return list(_each(chosen, options, None, on_step, on_report))
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(hold())
        except DatabaseError as error:
            log.warning("upkeep_not_begun", error=type(error).__name__)
            nothing = StepReport(
                name=NAME, ok=False, summary="The database does not answer; nothing was done."
            )
            if on_report is not None:
                on_report(nothing)
            return [nothing, *_each(looking, options, None, on_step, on_report)]
        return list(_each(chosen, options, lease, on_step, on_report))


def run_scheduled(
    flags: list[str], *, archive_to: str | None = None, **options: Any
) -> dict[str, str]:
    """Do what a schedule asks for; return step → what it told. Raises if a step failed.

    `options` are those of StepOptions, as the admin shows and takes them; a folder without a name
    raises ValueError. Another run at the same time is no failure, and is told.
    """
    place = None if archive_to is None else folder(archive_to)
    try:
        reports = run(choose(flags=flags), StepOptions(archive_to=place, **options))
    except AlreadyRunning as error:
        return {NAME: error.message}
    failed = [report for report in reports if not report.ok]
    if failed:
        raise RuntimeError("; ".join(f"{one.name}: {one.summary}" for one in failed))
    return {report.name: " ".join((report.summary, *report.lines)) for report in reports}


@contextmanager
def hold(name: str = NAME) -> Iterator[Lease]:
    """Hold the lease while the block runs. Raises AlreadyRunning."""
    lease = Lease(_take(name))
    keeper = threading.Thread(target=lease.keep, name="upkeep-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.over.set()
        keeper.join(timeout=5)
        try:
            UpkeepLease.objects.filter(name=name, holder=lease.row.holder).delete()
        except DatabaseError as error:
            # It ends by itself, and what the run came to must still be told.
            log.warning("upkeep_lease_not_given_back", error=type(error).__name__)


def _each(
    chosen: Collection[Step],
    options: StepOptions,
    lease: Lease | None,
    on_step: OnStep | None,
    on_report: OnReport | None,
) -> Iterator[StepReport]:
    for step in chosen:
        if lease is not None and lease.lost.is_set():
            report = StepReport(
                name=step.name, ok=False, summary="Not run: another run has taken over."
            )
        else:
            if on_step is not None:
                on_step(step)
            report = run_step(step, options)
        if on_report is not None:
            on_report(report)
        yield report


def _take(name: str) -> UpkeepLease:
    """Insert the row, or take it over with one conditional UPDATE from a holder that is gone."""
    at = database_now()
    mine = {
        "holder": uuid4(),
        "host": host_name(),
        "pid": os.getpid(),
        "process_started_at": psutil.Process().create_time(),
        "taken_at": at,
        "lease_until": at + timedelta(seconds=LEASE_S),
    }
    try:
        with transaction.atomic():
            return UpkeepLease.objects.create(name=name, **mine)
    except IntegrityError:
        there = UpkeepLease.objects.filter(name=name).first()
    if there is None:
        raise AlreadyRunning("Another upkeep has just ended; try again.", retry_after_s=1)
    gone = there.lease_until <= at or _is_dead(there)
    taken = gone and UpkeepLease.objects.filter(name=name, holder=there.holder).update(**mine)
    if not taken:
        raise AlreadyRunning(
            f"Another upkeep runs since {there.taken_at:%Y-%m-%d %H:%M:%S} UTC "
            f"({there.host}, process {there.pid}); nothing was done."
        )
    log.warning("upkeep_lease_taken_over", host=there.host, pid=there.pid)
    return UpkeepLease.objects.get(name=name)


def _is_dead(row: UpkeepLease) -> bool:
    """Say whether the holder is a process of this host that is gone."""
    process = WorkerProcess(host=row.host, pid=row.pid, process_started_at=row.process_started_at)
    return recovery.is_alive(process) is False
