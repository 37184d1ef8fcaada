"""Finding what died or got stuck, and repairing it. Every repair is recorded.

An attempt is suspect when its owner's lease is over. That alone returns no permit: the site may
still be working on the login of a worker that is only slow. The permit returns when the owner is
proven dead (a process on this host that is gone, by pid and start time), or at the deadline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psutil
import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from apps.common.clock import database_now, monotonic
from apps.tokens.errors import WorkerFailed
from apps.tokens.models import (
    AdmissionLimits,
    LoginAttempt,
    RecoveryAction,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Stage, Status
from apps.tokens.services import completion, explain, hints, locks, outcomes
from apps.tokens.services.owner import host_name

log = structlog.get_logger(__name__)

BATCH: Final = 100
STALE_AFTER: Final = timedelta(seconds=10)
STALE_BATCH: Final = 20
NOTE_EVERY: Final = timedelta(minutes=1)
# The clock of `create_time` ticks in hundredths of a second.
SAME_START_S: Final = 1.0
# A deadline is the worker's own limit too; its result may be on its way to the database.
DEADLINE_GRACE_S: Final = 5.0
# No worker tries for longer than this after the deadline to write a result (execution.py).
ABANDONED_AFTER_S: Final = 120.0


@dataclass(slots=True)
class SweepReport:
    """How many of each were repaired."""

    dead_owners: int = 0
    lost_attempts: int = 0
    expired_requests: int = 0
    stranded_requests: int = 0
    histories: int = 0
    skipped: bool = False


def sweep() -> SweepReport:
    """Repair everything that is found broken now. Safe to run anywhere, any number of times."""
    report = SweepReport()
    at = database_now()
    report.dead_owners = _bury_dead_owners(at)
    report.lost_attempts = _close_lost_attempts(at)
    report.expired_requests = _expire_requests(at)
    report.stranded_requests = _free_stranded_requests()
    report.histories = _write_pending_history()
    return report


def suspects() -> QuerySet[LoginAttempt]:
    """Return the open logins whose owner's lease is over: their permits are still held."""
    silent = LoginAttempt.objects.named().filter(
        outcome=Outcome.OPEN, owner__lease_until__lte=database_now()
    )
    return silent.select_related("site", "account").order_by("deadline")


def wake_stale_waiters() -> int:
    """Find requests that could run and wait for a worker only, and hint again; return how many.

    A waiter is noted once a minute, with how long it has waited.
    """
    at = database_now()
    late = TokenRequest.objects.runnable(at=at - STALE_AFTER).filter(
        created_at__lte=at - STALE_AFTER
    )
    woken = 0
    for row in late.select_related("site", "account").order_by("order_at")[:STALE_BATCH]:
        if [wait.code for wait in explain.request(row).waiting_for] != ["worker"]:
            continue
        woken += 1
        hints.send(row.queue)
        noted = RecoveryAction.objects.filter(
            kind="stale_waiter", subject=str(row.pk), at__gt=at - NOTE_EVERY
        )
        if not noted.exists():
            waited_s = (at - max(row.created_at, row.not_before)).total_seconds()
            _note("stale_waiter", str(row.pk), queue=row.queue, waited_s=round(waited_s, 1))
    return woken


def runnable_clusters() -> list[str]:
    """Return the clusters that have requests to run now, for the supervisor's tick."""
    at = database_now()
    queues = TokenRequest.objects.runnable(at=at).order_by().values_list("queue", flat=True)
    return sorted({hints.cluster_of(queue) for queue in queues.distinct()})


def is_alive(process: WorkerProcess) -> bool | None:
    """Say whether a worker's process runs; None if it is on another host and cannot be seen."""
    if process.host != host_name():
        return None
    try:
        seen = psutil.Process(process.pid)
        if seen.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(seen.create_time() - process.process_started_at) < SAME_START_S
    except psutil.NoSuchProcess:
        return False


def _bury_dead_owners(at: datetime) -> int:
    """Mark the processes of this host that are gone; their attempts are closed next."""
    buried = 0
    for process in WorkerProcess.objects.filter(ended_at=None, host=host_name()):
        if is_alive(process) is not False:
            continue
        with transaction.atomic():
            changed = WorkerProcess.objects.filter(pk=process.pk, ended_at=None).update(
                ended_at=at, ended_how="died"
            )
            if changed:
                _note("dead_worker", str(process), cluster=process.cluster)
                buried += 1
    return buried


def _close_lost_attempts(at: datetime) -> int:
    """Look closer at the logins of suspects only: each look takes the lock that claims wait for."""
    abandoned = Q(deadline__lte=at - timedelta(seconds=ABANDONED_AFTER_S))
    suspect = Q(owner__ended_at__isnull=False) | Q(owner__lease_until__lte=at) | abandoned
    attempts = LoginAttempt.objects.filter(suspect, outcome=Outcome.OPEN)
    return sum(_close_if_lost(pk) for pk in attempts.values_list("pk", flat=True)[:BATCH])


def _close_if_lost(pk: UUID) -> bool:
    """Close one attempt whose owner is dead, silent past the deadline, or has given it up."""
    begun = monotonic()
    with locks.admission() as at:
        # Whoever waited this long for the lock may have kept heartbeats waiting: look again.
        waited_long = monotonic() - begun > AdmissionLimits.current().lease_s / 2
        attempt = (
            LoginAttempt.objects.filter(pk=pk, outcome=Outcome.OPEN).select_related("owner").first()
        )
        if attempt is None:
            return False
        died = attempt.owner.ended_how == "died"
        silent = attempt.owner.lease_until <= at or attempt.owner.ended_at is not None
        overdue = attempt.deadline + timedelta(seconds=DEADLINE_GRACE_S) <= at
        given_up = attempt.deadline + timedelta(seconds=ABANDONED_AFTER_S) <= at
        if not died and (waited_long or not (given_up or (silent and overdue))):
            return False
        how = "died" if died else "went silent" if silent else "could not write the result"
        closed = completion.lose(
            attempt, WorkerFailed(f"The worker {how} during the login."), at=at
        )
        if closed:
            _note("lost_login", str(pk), owner=str(attempt.owner), how=how)
        return closed


def _expire_requests(at: datetime) -> int:
    """End queued requests that nobody can be waiting for any more."""
    over = TokenRequest.objects.live().filter(status=Status.QUEUED, expires_at__lte=at)
    return _each(
        over,
        lambda pk: outcomes.end(
            pk,
            Status.EXPIRED,
            at=at,
            only_if=Status.QUEUED,
            error_code="request_expired",
            error_message="Nobody could serve it in time.",
        ),
    )


def _free_stranded_requests() -> int:
    """Queue requests again that say "running" while no login is open for them."""
    running = TokenRequest.objects.live().filter(status=Status.RUNNING)
    stranded = running.exclude(logins__outcome=Outcome.OPEN)

    def free(pk: UUID) -> bool:
        with locks.admission():
            freed = stranded.filter(pk=pk).update(status=Status.QUEUED, stage=Stage.WAITING)
            if freed:
                _note("stranded_request", str(pk))
            return bool(freed)

    return _each(stranded, free)


def _write_pending_history() -> int:
    pending = TokenRequest.objects.filter(history_pending=True)

    def write(pk: Any) -> bool:
        with transaction.atomic():
            written = outcomes.write_history(pk)
            if written:
                _note("history_written", str(pk))
            return written

    return _each(pending, write)


def _each(rows: Any, repair: Callable[[Any], bool]) -> int:
    """Repair up to a batch of rows, each in its own transaction; count what was done."""
    done = 0
    # In any order: by the model's own, SQLite would read every request there ever was.
    for pk in list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            done += repair(pk)
    return done


def _note(kind: str, subject: str, **details: object) -> None:
    RecoveryAction.objects.create(at=database_now(), kind=kind, subject=subject, details=details)
    log.warning("recovered", kind=kind, subject=subject, **details)
