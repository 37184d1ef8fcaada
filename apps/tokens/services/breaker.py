"""The circuit breaker of a site. Only the site's own failures move it.

It opens after 3 failures in a row, or when half of the last 20 logins (of at least 5) failed;
after its time it asks the recipe's health request, if there is one, and then lets exactly one
login through. Any answer of the site ends that probe as reachable, a refused password as well.
With N logins in flight it can open only after their results too: 3 + N - 1 in the worst case.

Everything here runs inside the admission lock, which makes every change a serial one.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db.models import F, Q

from apps.tokens.errors import Blame, LoginFailure, RateLimited
from apps.tokens.models import BreakerTransition, LoginAttempt, Site, SiteBreaker
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import hours

log = structlog.get_logger(__name__)

FAILURES_IN_A_ROW: Final = 3
WINDOW: Final = 20  # resilience4j's minimum of 100 calls would never be reached by logins
MINIMUM_CALLS: Final = 5
SILENT: Final = (Blame.NETWORK, Blame.OURSELVES)
FAILURE_RATE: Final = 0.5
LONGEST_OPEN_S: Final = 3600
HEALTH_LEASE: Final = timedelta(seconds=60)
PROBE_AGAIN_AFTER: Final = timedelta(seconds=30)

PROBED: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN)
BLOCKING: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN)


def blocked_sites(*, at: datetime) -> set[UUID]:
    """Return the sites where no login may start now, not even a probe."""
    rows = SiteBreaker.objects.filter(state__in=BLOCKING).select_related("site")
    return {row.site_id for row in rows if not _lets_a_probe(row, at=at)}


def admitted(attempt: LoginAttempt, *, at: datetime) -> bool:
    """Note that a login has been admitted; where the breaker was open, it is the one probe.

    True says that it is: nothing else may start at the site.
    """
    row = SiteBreaker.objects.filter(site=attempt.site_id, state__in=BLOCKING).first()
    if row is None:
        return False
    SiteBreaker.objects.filter(pk=row.pk).update(probe=attempt.pk)
    if row.state == BreakerState.OPEN:
        _change(row, BreakerState.HALF_OPEN, at=at, reason="one login probes the site")
    return True


def succeeded(attempt: LoginAttempt, *, at: datetime) -> None:
    """Count a login that gave a token; a slow one is a failure where the site says so."""
    took_s = (at - attempt.started_at).total_seconds()
    limit_s = attempt.site.breaker_slow_s
    if limit_s is not None and took_s > limit_s:
        _count_failure(attempt, f"a login took {took_s:.0f} s", at=at)
    else:
        _count_answer(attempt, at=at)


def failed(attempt: LoginAttempt, error: LoginFailure, *, at: datetime) -> None:
    """Count a failed login by whose fault it was."""
    if isinstance(error, RateLimited):
        # An answer, and a plea: the site rests, and the breaker does not move.
        until = at + timedelta(seconds=error.retry_after_s or 30)
        # Of two logins that were told to wait, the longer wait holds.
        Site.objects.filter(
            Q(cooldown_until=None) | Q(cooldown_until__lt=until), pk=attempt.site_id
        ).update(cooldown_until=until)
        _count_answer(attempt, at=at)
    elif error.blame == Blame.SITE:
        _count_failure(attempt, error.code, at=at)
    elif error.blame in (Blame.CREDENTIALS, Blame.ACCOUNT):
        _count_answer(attempt, at=at)
    else:
        probe_unknown(attempt, at=at)


def probe_unknown(attempt: LoginAttempt, *, at: datetime) -> None:
    """A probe ended without a word of the site (our fault, the network's): probe again soon."""
    row = _row_of(attempt, at=at)
    if row is None or row.probe != attempt.pk or row.state not in PROBED:
        return
    SiteBreaker.objects.filter(pk=row.pk).update(probe=None, open_until=at + PROBE_AGAIN_AFTER)
    _change(row, BreakerState.OPEN, at=at, reason="the probe told nothing about the site")


def force(site: Site, state: BreakerState, *, at: datetime, by: str) -> None:
    """Set the breaker by hand: forced open, forced closed, or closed again (a reset)."""
    row, _ = SiteBreaker.objects.get_or_create(site=site)
    SiteBreaker.objects.filter(pk=row.pk).update(
        failures_in_a_row=0, trips=0, open_until=None, probe=None, counted_since=at, healthy_at=None
    )
    _change(row, state, at=at, reason="set by hand", by=by)


def health_due(*, at: datetime) -> Iterable[SiteBreaker]:
    """Return the open breakers whose time is over and that nobody asks the health of.

    Closed sites are left alone: a site that is down in its closed hours has not failed.
    """
    free = Q(health_until=None) | Q(health_until__lte=at)
    rows = SiteBreaker.objects.filter(
        free, state=BreakerState.OPEN, open_until__lte=at, healthy_at=None
    )
    return [row for row in rows.select_related("site") if hours.is_open(row.site, at=at)]


def take_health(row: SiteBreaker, *, at: datetime) -> bool:
    """Take the lease of one health request; False if somebody else has it."""
    free = Q(health_until=None) | Q(health_until__lte=at)
    mine = SiteBreaker.objects.filter(free, pk=row.pk, state=BreakerState.OPEN)
    return bool(mine.update(health_until=at + HEALTH_LEASE))


def health_answered(row: SiteBreaker, healthy: bool | None, *, at: datetime) -> None:
    """Note what the health request said; None means that the recipe has none."""
    # A person may have set the breaker while the site was asked: their word holds.
    mine = SiteBreaker.objects.filter(pk=row.pk, state=BreakerState.OPEN)
    healthy_at = None if healthy is False else at
    if mine.update(health_until=None, healthy_at=healthy_at) and healthy is False:
        _open(row, "the health request failed", at=at)


def _lets_a_probe(row: SiteBreaker, *, at: datetime) -> bool:
    """Say whether exactly one login may start: the time is over, and nobody probes yet."""
    if row.state == BreakerState.OPEN:
        return bool(row.open_until and row.open_until <= at and row.healthy_at)
    if row.state != BreakerState.HALF_OPEN:
        return False
    probing = LoginAttempt.objects.filter(site=row.site_id, outcome=Outcome.OPEN)
    return row.probe is None or not probing.filter(pk=row.probe).exists()


def _count_answer(attempt: LoginAttempt, *, at: datetime) -> None:
    """The site answered: that ends a row of failures, and a probe."""
    row = _row_of(attempt, at=at)
    if row is None:
        return
    SiteBreaker.objects.filter(pk=row.pk).update(failures_in_a_row=0)
    if row.state in PROBED and row.probe == attempt.pk:
        SiteBreaker.objects.filter(pk=row.pk).update(
            trips=0, open_until=None, probe=None, counted_since=at, healthy_at=None
        )
        _change(row, BreakerState.CLOSED, at=at, reason="the site answered the probe")


def _count_failure(attempt: LoginAttempt, reason: str, *, at: datetime) -> None:
    if not hours.is_open(attempt.site, at=at):
        return  # a site that has closed meanwhile is not at fault for failing
    row, _ = SiteBreaker.objects.get_or_create(site=attempt.site)
    SiteBreaker.objects.filter(pk=row.pk).update(failures_in_a_row=F("failures_in_a_row") + 1)
    row.refresh_from_db()
    if row.state == BreakerState.CLOSED:
        if row.failures_in_a_row >= FAILURES_IN_A_ROW:
            _open(row, f"{row.failures_in_a_row} failures in a row, the last: {reason}", at=at)
        elif _failure_rate(row) >= FAILURE_RATE:
            _open(row, f"half of the last logins failed, the last: {reason}", at=at)
    elif row.state == BreakerState.HALF_OPEN and row.probe == attempt.pk:
        _open(row, f"the probe failed: {reason}", at=at)


def _failure_rate(row: SiteBreaker) -> float:
    """Return the share of the site's failures in its last logins; 0 while there are too few.

    Only what the site said counts: a fault of the network or our own is neither a failure nor
    one of the logins, and nor is what ended in closed hours.
    """
    told = LoginAttempt.objects.filter(
        site=row.site_id, outcome__in=(Outcome.SUCCEEDED, Outcome.FAILED)
    ).exclude(blame__in=SILENT)
    if row.counted_since:
        told = told.filter(finished_at__gt=row.counted_since)
    last = [
        one
        for one in told.order_by("-started_at")[:WINDOW]
        if one.finished_at and hours.is_open(row.site, at=one.finished_at)
    ]
    if len(last) < MINIMUM_CALLS:
        return 0.0
    return sum(_is_failure(one, slow_s=row.site.breaker_slow_s) for one in last) / len(last)


def _is_failure(attempt: LoginAttempt, *, slow_s: int | None) -> bool:
    if attempt.outcome == Outcome.SUCCEEDED:
        return _took_s(attempt) > slow_s if slow_s is not None else False
    return attempt.blame == Blame.SITE and attempt.error_code != RateLimited.code


def _took_s(attempt: LoginAttempt) -> float:
    ended = attempt.finished_at or attempt.started_at
    return (ended - attempt.started_at).total_seconds()


def _open(row: SiteBreaker, reason: str, *, at: datetime) -> None:
    """Open, for twice as long at each trip."""
    open_s = min(LONGEST_OPEN_S, row.site.breaker_open_s * 2**row.trips)
    SiteBreaker.objects.filter(pk=row.pk).update(
        trips=F("trips") + 1,
        open_until=at + timedelta(seconds=open_s),
        probe=None,
        healthy_at=None,
    )
    _change(row, BreakerState.OPEN, at=at, reason=f"{reason}; for {open_s} s")


def _change(
    row: SiteBreaker, state: BreakerState, *, at: datetime, reason: str, by: str = ""
) -> None:
    SiteBreaker.objects.filter(pk=row.pk).update(state=state, changed_at=at)
    BreakerTransition.objects.create(
        site_id=row.site_id, at=at, before=row.state, after=state, reason=reason[:200], by=by[:200]
    )
    log.warning("breaker_changed", site=row.site.slug, before=row.state, after=state, why=reason)


def _row_of(attempt: LoginAttempt, *, at: datetime) -> SiteBreaker | None:
    """Return the site's breaker if it may move: in closed hours nothing does."""
    if not hours.is_open(attempt.site, at=at):
        return None
    return SiteBreaker.objects.select_related("site").filter(site=attempt.site_id).first()
