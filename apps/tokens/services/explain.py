"""Why a request waits, what would run next, and when: said from the very rules of admission."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from apps.common.clock import database_now
from apps.tokens.models import Account, AdmissionLimits, Site, SiteBreaker, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.breakers import BreakerState
from apps.tokens.models.requests import BACKGROUND, LIVE, Queue, Status
from apps.tokens.services import admission, hours, selection
from apps.tokens.services import breaker as breaker_rules
from apps.tokens.services.occupancy import Occupancy

# Those whose accounts may not log in are set aside by the next admission: mostly one is looked at.
LOOKED_AT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One thing that is being waited for; `until` None means: until something happens."""

    code: str
    until: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountVerdict:
    """Whether an account may log in now, why not, and its rank among those that may."""

    account: str
    eligible: bool
    reason: str
    until: datetime | None
    score: float
    position: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that keeps a request waiting; `earliest_at` None means it cannot be said."""

    at: datetime
    status: str
    waiting_for: tuple[Waiting, ...]
    position: int | None
    ahead: int | None
    earliest_at: datetime | None
    accounts: tuple[AccountVerdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteExplanation:
    """What holds a site's logins back, and which request would run next as which account."""

    at: datetime
    waiting_for: tuple[Waiting, ...]
    queued: int
    running: int
    next_request: str | None
    next_account: str | None
    accounts: tuple[AccountVerdict, ...]


def request(row: TokenRequest) -> Explanation:
    """Explain a request that was selected with its site and account."""
    at = database_now()
    if row.status not in LIVE:
        return _ended(row, at)
    limits = AdmissionLimits.current()
    accounts = _verdicts(row.site, row.account, at=at, limits=limits)
    waiting: list[Waiting] = []
    ahead: int | None = None
    if row.status == Status.PAUSED:
        waiting.append(Waiting(code="person"))
    elif row.status == Status.QUEUED:
        waiting = [*_site_waits(row.site, at=at, limits=limits), *_own_waits(row, at=at)]
        waiting += _permit_waits(row, at=at, limits=limits)
        waiting += _account_waits(accounts)
        ahead = _ahead(row, at=at)
    return Explanation(
        at=at,
        status=row.status,
        waiting_for=tuple(waiting) or _nothing_or_worker(row),
        position=None if ahead is None else ahead + 1,
        ahead=ahead,
        earliest_at=_earliest(waiting, at),
        accounts=accounts,
    )


def site(row: Site) -> SiteExplanation:
    """Explain a site: what holds it back, and what would run next."""
    at, limits = database_now(), AdmissionLimits.current()
    waiting_for = _site_waits(row, at=at, limits=limits)
    state = Occupancy.read(limits, at=at)
    if state.total >= limits.max_concurrent:
        waiting_for.append(_limit("global_limit", state.total, limits.max_concurrent))
    if row.pk in state.full_sites:
        waiting_for.append(_limit("site_limit", state.by_site[row.pk], _site_limit(row, limits)))
    accounts = _verdicts(row, None, at=at, limits=limits)
    head = _next(row, state, {one.account for one in accounts if one.eligible}, at=at)
    return SiteExplanation(
        at=at,
        waiting_for=tuple(waiting_for),
        queued=TokenRequest.objects.filter(site=row, status=Status.QUEUED).count(),
        running=row.logins.filter(outcome=Outcome.OPEN).count(),
        next_request=str(head.pk) if head else None,
        next_account=_next_account(head, accounts) if head else None,
        accounts=accounts,
    )


def _next_account(head: TokenRequest, accounts: tuple[AccountVerdict, ...]) -> str | None:
    """Return the account that the request would log in as: its own, or the first by rank."""
    own = head.account.username if head.account else None
    tried = set(head.logins.values_list("account__username", flat=True)) if head.attempts else set()
    able = [one for one in accounts if one.eligible and own in (None, one.account)]
    first = min(able, key=lambda one: (one.account in tried, one.position or 0), default=None)
    return first.account if first else None


def opening(row: Site) -> Waiting | None:
    """Return the one thing that a waiting caller is told at once: when a closed site opens."""
    at, limits = database_now(), AdmissionLimits.current()
    told = ("everything_paused", "site_paused", "site_closed", "breaker_open", "site_cooling")
    found = [wait for wait in _site_waits(row, at=at, limits=limits) if wait.code in told]
    return found[0] if found else None


def _ended(row: TokenRequest, at: datetime) -> Explanation:
    details = {"error_code": row.error_code, "error_message": row.error_message}
    return Explanation(
        at=at,
        status=row.status,
        waiting_for=(Waiting(code="nothing", details=details if row.error_code else {}),),
        position=None,
        ahead=None,
        earliest_at=None,
        accounts=(),
    )


def _nothing_or_worker(row: TokenRequest) -> tuple[Waiting, ...]:
    return (Waiting(code="worker" if row.status == Status.QUEUED else "login"),)


def _site_waits(row: Site, *, at: datetime, limits: AdmissionLimits) -> list[Waiting]:
    """Return what keeps a whole site from logging in."""
    found: list[Waiting] = []
    if limits.paused:
        found.append(Waiting(code="everything_paused"))
    if not row.enabled:
        found.append(Waiting(code="site_disabled"))
    opens_at = hours.opens_at(row, at=at)
    if opens_at != at:
        paused = row.paused and (row.paused_until is None or row.paused_until > at)
        code = "site_paused" if paused else "site_closed"
        found.append(Waiting(code=code, until=opens_at))
    if row.cooldown_until and row.cooldown_until > at:
        found.append(Waiting(code="site_cooling", until=row.cooldown_until))
    if row.pk in breaker_rules.blocked_sites(at=at):
        found.append(_breaker_wait(row))
    if until := admission.site_budget_until(row, at=at):
        details = {"budget": row.budget_per_site, "window_s": row.budget_window_s}
        found.append(Waiting(code="site_budget_spent", until=until, details=details))
    return found


def _breaker_wait(row: Site) -> Waiting:
    breaker = SiteBreaker.objects.get(site=row)
    details = {"state": breaker.state, "trips": breaker.trips}
    until = breaker.open_until if breaker.state == BreakerState.OPEN else None
    return Waiting(code="breaker_open", until=until, details=details)


def _own_waits(row: TokenRequest, *, at: datetime) -> list[Waiting]:
    if row.not_before <= at:
        return []
    details = {"attempts": row.attempts, "last_error": row.error_code}
    return [Waiting(code="retry_wait", until=row.not_before, details=details)]


def _permit_waits(row: TokenRequest, *, at: datetime, limits: AdmissionLimits) -> list[Waiting]:
    state = Occupancy.read(limits, at=at)
    found = []
    if state.total >= limits.max_concurrent:
        found.append(_limit("global_limit", state.total, limits.max_concurrent))
    if row.site_id in state.full_sites:
        n = state.by_site[row.site_id]
        found.append(_limit("site_limit", n, _site_limit(row.site, limits)))
    background = Queue(row.queue) in BACKGROUND
    if background and (state.background_full or row.site_id in state.background_full_sites):
        found.append(Waiting(code="reserved_for_interactive"))
    return found


def _account_waits(accounts: tuple[AccountVerdict, ...]) -> list[Waiting]:
    if not accounts or any(found.eligible for found in accounts):
        return [] if accounts else [Waiting(code="no_accounts")]
    ends = [found.until for found in accounts if found.until]
    reasons = sorted({found.reason for found in accounts})
    return [Waiting(code="account", until=min(ends, default=None), details={"reasons": reasons})]


def _limit(code: str, used: int, limit: int) -> Waiting:
    return Waiting(code=code, details={"used": used, "limit": limit})


def _site_limit(row: Site, limits: AdmissionLimits) -> int:
    return row.max_concurrent or limits.max_concurrent_per_site


def _ahead(row: TokenRequest, *, at: datetime) -> int:
    """Return how many requests of the site go before this one."""
    waiting = TokenRequest.objects.runnable(at=at).filter(site=row.site_id)
    return waiting.filter(order_at__lt=row.order_at).exclude(pk=row.pk).count()


def _next(row: Site, state: Occupancy, able: set[str], *, at: datetime) -> TokenRequest | None:
    """Return the oldest request that an account can log in for, or else the oldest one."""
    queued = TokenRequest.objects.runnable(at=at).filter(site=row).order_by("order_at")
    waiting = queued.exclude(account__in=state.busy_accounts).select_related("account")
    if state.background_full or row.pk in state.background_full_sites:
        waiting = waiting.exclude(queue__in=BACKGROUND)
    for request in waiting[:LOOKED_AT]:
        if able and (request.account is None or request.account.username in able):
            return request
    return queued.select_related("account").first()


def _earliest(waiting: list[Waiting], at: datetime) -> datetime | None:
    """Return the latest of the known ends; None where one of the waits has no known end."""
    if any(wait.until is None for wait in waiting):
        return None
    return max((wait.until for wait in waiting if wait.until), default=at)


def _verdicts(
    row: Site, account: Account | None, *, at: datetime, limits: AdmissionLimits
) -> tuple[AccountVerdict, ...]:
    accounts = Account.objects.filter(site=row)
    if account is not None:
        accounts = accounts.filter(pk=account.pk)
    judged = selection.judge(accounts, site=row, at=at, limits=limits)
    able = [found.account for found in judged if found.why_not is None]
    order = sorted(able, key=lambda one: selection.rank(one, site=row, at=at))
    places = {one.pk: place for place, one in enumerate(order, start=1)}
    return tuple(
        AccountVerdict(
            account=found.account.username,
            eligible=found.why_not is None,
            reason=found.why_not.code if found.why_not else "",
            until=found.why_not.until if found.why_not else None,
            score=round(selection.score(found.account, at=at), 2),
            position=places.get(found.account.pk),
        )
        for found in judged
    )
