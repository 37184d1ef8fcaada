"""Who goes next: admission and claim in one short transaction.

A site that is full, and a request whose accounts cannot be used, are stepped over: nothing
waits behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from django.db.models import QuerySet

from apps.common import tracing
from apps.common.clock import monotonic
from apps.tokens.contracts import Credentials, SiteConfig
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    Site,
    StoredToken,
    TokenRequest,
)
from apps.tokens.models.requests import Queue, Stage, Status
from apps.tokens.services import (
    breaker,
    checkpoints,
    locks,
    lookup,
    outcomes,
    selection,
    standing,
)
from apps.tokens.services.accounts import credentials_of
from apps.tokens.services.occupancy import Occupancy
from apps.tokens.services.sites import site_config

# One transaction looks at this many requests that turn out not to need or not to get a login, so
# that it stays short; one call goes on behind them for this many transactions.
MAX_STEPS: Final = 25
MAX_ROUNDS: Final = 20
# Several logins share one reading of limits and permits; more would hold the lock for too long.
CLAIMS_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A login that this worker, and no other, is to make now.

    `waited_s` is how long it stood in the queue; `traceparent` is the trace it belongs to.
    """

    attempt_id: UUID
    request_id: UUID
    site: SiteConfig
    account_id: UUID
    credentials: Credentials = field(repr=False)
    fence: int
    credential_version: int
    secret_fingerprint: str
    resend_in_doubt: bool
    waited_s: float = 0.0
    traceparent: str = ""


def claim(*, owner_id: UUID, queues: Sequence[str]) -> Claim | None:
    """Claim the next login for this worker process, or None if nothing can start now."""
    return next(iter(claim_some(owner_id=owner_id, queues=queues, most=1)), None)


def claim_some(*, owner_id: UUID, queues: Sequence[str], most: int) -> list[Claim]:
    """Claim the next logins for this worker process, `most` or CLAIMS_AT_ONCE at most.

    Also ends requests that need no login any more (a fresh enough token has appeared) and those
    that nobody can serve. An empty list says that nothing can start now.
    """
    most = min(most, CLAIMS_AT_ONCE)
    for _ in range(MAX_ROUNDS):
        began = monotonic()
        made, is_more = _claim_round(owner_id=owner_id, queues=queues, most=most)
        for one in made:
            _trace(one, took_s=monotonic() - began)
        if made or not is_more:
            return made
    return []


def _trace(made: Claim, *, took_s: float) -> None:
    """Show the wait in the queue and its end; only now is it known whose they were."""
    facts = {"latchkey.site": made.site.slug}
    tracing.past(
        "queue", facts, parent=made.traceparent, took_s=made.waited_s - took_s, ago_s=took_s
    )
    tracing.past("admission", facts, parent=made.traceparent, took_s=took_s)


def _claim_round(*, owner_id: UUID, queues: Sequence[str], most: int) -> tuple[list[Claim], bool]:
    """Return claims, and whether there may be more behind what this transaction looked at."""
    made: list[Claim] = []
    with locks.admission() as at:
        limits = AdmissionLimits.current()
        if limits.paused:
            return made, False
        standing.let_due_ones_in(at)
        waiting = standing.waiting_queues(queues)
        if not waiting:
            return made, False
        state = Occupancy.read(limits, at=at)
        for _ in range(MAX_STEPS):
            if len(made) == most or state.total >= limits.max_concurrent:
                return made, False
            request = standing.next_request(state, queues=waiting, at=at)
            if request is None:
                return made, False
            claimed = _admit(request, state, owner_id=owner_id, at=at)
            made += [claimed] if claimed else []
    return made, True


def claim_this(request_id: UUID, *, owner_id: UUID) -> Claim | None:
    """Claim one request out of turn, within all limits; None if it cannot start now.

    For a person who wants to watch a login; `not_before` keeps the workers from taking it first.
    """
    with locks.admission() as at:
        limits = AdmissionLimits.current()
        state = Occupancy.read(limits, at=at)
        request = (
            TokenRequest.objects.select_related("site", "account")
            .filter(pk=request_id, status=Status.QUEUED)
            .exclude(site__in=state.closed_sites(Queue.INTERACTIVE))
            .first()
        )
        if request is None or limits.paused or state.total >= limits.max_concurrent:
            return None
        return _admit(request, state, owner_id=owner_id, at=at)


def _admit(
    request: TokenRequest,
    state: Occupancy,
    *,
    owner_id: UUID,
    at: datetime,
) -> Claim | None:
    """Start a login for this request, or end or postpone it."""
    limits = state.limits
    if request.expires_at <= at:
        outcomes.end(request.pk, Status.EXPIRED, at=at, error_code="request_expired")
        return None
    if _served_meanwhile(request, at=at):
        return None
    if site_budget_until(request.site, at=at):
        state.resting_sites.add(request.site_id)
        return None
    accounts = Account.objects.filter(site=request.site)
    if request.account_id:
        accounts = accounts.filter(pk=request.account_id)
    tried = set(request.logins.values_list("account_id", flat=True)) if request.attempts else set()
    account = selection.choose(accounts, site=request.site, at=at, limits=limits, tried=tried)
    if account is None:
        _set_aside(request, accounts, state, at=at)
        return None
    return _start(request, account, state, owner_id=owner_id, at=at)


def site_budget_until(site: Site, *, at: datetime) -> datetime | None:
    """Return when this site's spent login budget allows the next login; None if it does now."""
    window = timedelta(seconds=site.budget_window_s)
    recent = LoginAttempt.objects.filter(site=site, started_at__gt=at - window).order_by()
    if recent.count() < site.budget_per_site:
        return None
    return selection.nth_newest(recent, site.budget_per_site) + window


def _served_meanwhile(request: TokenRequest, *, at: datetime) -> bool:
    """End the request without a login if a fresh enough token is in storage by now."""
    whose = (
        {"account": request.account_id} if request.account_id else {"account__site": request.site}
    )
    newer = StoredToken.objects.filter(**whose, version__gt=request.newer_than)
    if not newer.exists():  # mostly, and asked at half the price of the whole token
        return False
    name = request.account.username if request.account else None
    view = lookup.stored(request.site.slug, name, at=at, newer_than=request.newer_than)
    if view is None:
        return False
    if not view.serves(at=at, newer_than=request.newer_than, min_ttl_s=request.min_ttl_s):
        return False
    return outcomes.end(
        request.pk,
        Status.DONE,
        at=at,
        served_by=view.account,
        token_fingerprint=view.fingerprint,
    )


def _set_aside(
    request: TokenRequest,
    accounts: QuerySet[Account],
    state: Occupancy,
    *,
    at: datetime,
) -> None:
    """Step over a request whose accounts cannot log in now: until when, or for good."""
    judged = selection.judge(accounts, site=request.site, at=at, limits=state.limits)
    reasons = [found.why_not for found in judged if found.why_not]
    ends = [reason.until for reason in reasons if reason.until]
    if not ends:
        code = reasons[0].code if len({reason.code for reason in reasons}) == 1 else ""
        outcomes.end(
            request.pk,
            Status.FAILED,
            at=at,
            error_code=code or "no_account_available",
            error_message="No account of this site can be used until a person acts.",
        )
    elif min(ends) <= at:  # only busy ones: whoever is busy frees the whole site's queue
        state.resting_sites.add(request.site_id)
    else:
        TokenRequest.objects.filter(pk=request.pk).update(
            not_before=min(ends), set_aside=True, stage=Stage.WAITING
        )


def _start(
    request: TokenRequest, account: Account, state: Occupancy, *, owner_id: UUID, at: datetime
) -> Claim | None:
    """Take the request and open its attempt; None if somebody has ended it this moment."""
    request.status, request.stage = Status.RUNNING, Stage.SELECTING
    request.attempts += 1
    request.started_at = request.started_at or at
    taken = TokenRequest.objects.filter(pk=request.pk, status=Status.QUEUED).update(
        status=request.status,
        stage=request.stage,
        attempts=request.attempts,
        started_at=request.started_at,
    )
    if not taken:
        return None  # cancelled or expired meanwhile: those ends need no admission lock
    doubtful = vars(account)["doubts"] > 0 and not vars(account)["is_proven"]
    site = request.site
    attempt = LoginAttempt.objects.create(
        id=uuid4(),
        request=request,
        site=site,
        account=account,
        owner_id=owner_id,
        fence=account.fence,
        credential_version=account.credential_version,
        concurrency_at_start=state.by_site[site.pk] + 1,
        started_at=at,
        deadline=at + timedelta(seconds=site.login_timeout_s),
        resend_in_doubt=doubtful,
    )
    Account.objects.filter(pk=account.pk).update(last_attempt_at=at)
    checkpoints.keep_row(request)
    state.add(site, account.pk)
    if breaker.admitted(attempt, at=at):
        state.resting_sites.add(site.pk)
    account.site = site
    return Claim(
        attempt_id=attempt.pk,
        request_id=request.pk,
        site=site_config(site),
        account_id=account.pk,
        credentials=credentials_of(account),
        fence=account.fence,
        credential_version=account.credential_version,
        secret_fingerprint=account.secret_fingerprint,
        resend_in_doubt=doubtful,
        # A second attempt waits since its back-off was over.
        waited_s=(at - max(request.created_at, request.not_before)).total_seconds(),
        traceparent=request.traceparent,
    )
