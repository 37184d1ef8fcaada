"""Who goes next: admission and claim in one short transaction.

A site that is full, and a request whose accounts cannot be used, are stepped over: nothing
waits behind them. The head of each site's queue is one index look-up, so the cost does not grow
with the number of requests that wait.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from django.db.models import OuterRef, Q, QuerySet, Subquery

from apps.common import tracing
from apps.common.clock import monotonic
from apps.tokens.contracts import Credentials, SiteConfig
from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, Site, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import BACKGROUND, Stage, Status
from apps.tokens.services import breaker, checkpoints, hours, locks, lookup, outcomes, selection
from apps.tokens.services.accounts import credentials_of
from apps.tokens.services.sites import site_config

# One transaction looks at this many requests that turn out not to need or not to get a login, so
# that it stays short; one claim goes on behind them for this many transactions.
MAX_STEPS: Final = 25
MAX_ROUNDS: Final = 20


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
    """Claim the next login for this worker process, or None if nothing can start now.

    Also ends requests that need no login any more (a fresh enough token has appeared) and those
    that nobody can serve.
    """
    for _ in range(MAX_ROUNDS):
        began = monotonic()
        made, is_more = _claim_round(owner_id=owner_id, queues=queues)
        if made:
            _trace(made, took_s=monotonic() - began)
        if made or not is_more:
            return made
    return None


def _trace(made: Claim, *, took_s: float) -> None:
    """Show the wait in the queue and its end; only now is it known whose they were."""
    facts = {"latchkey.site": made.site.slug}
    tracing.past(
        "queue", facts, parent=made.traceparent, took_s=made.waited_s - took_s, ago_s=took_s
    )
    tracing.past("admission", facts, parent=made.traceparent, took_s=took_s)


def _claim_round(*, owner_id: UUID, queues: Sequence[str]) -> tuple[Claim | None, bool]:
    """Return a claim, and whether there may be one behind what this transaction looked at."""
    with locks.admission() as at:
        limits = AdmissionLimits.current()
        if limits.paused:
            return None, False
        state = Occupancy.read(limits, at=at)
        for _ in range(MAX_STEPS):
            if state.total >= limits.max_concurrent:
                return None, False
            request = _next(state, queues=queues, at=at)
            if request is None:
                return None, False
            made = _admit(request, state, owner_id=owner_id, at=at, limits=limits)
            if made:
                return made, False
        return None, True


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
            .exclude(site__in=state.closed_sites)
            .first()
        )
        if request is None or limits.paused or state.total >= limits.max_concurrent:
            return None
        return _admit(request, state, owner_id=owner_id, at=at, limits=limits)


@dataclass(slots=True)
class Occupancy:
    """Who holds permits now, and which sites nothing can start at.

    `full_sites` have no permit left; `resting_sites` are closed, paused, cooling or broken.
    Background requests (refresh, batch) leave some permits free: `background_full` and
    `background_full_sites` say where they must wait though an interactive one need not.
    """

    total: int
    by_site: Counter[UUID]
    busy_accounts: set[UUID]
    full_sites: set[UUID]
    resting_sites: set[UUID]
    background_full: bool
    background_full_sites: set[UUID]

    @classmethod
    def read(cls, limits: AdmissionLimits, *, at: datetime) -> "Occupancy":
        rows = list(
            LoginAttempt.objects.filter(outcome=Outcome.OPEN)
            .order_by()
            .values_list("site_id", "account_id", "site__max_concurrent", "request__status")
        )
        # While a login waits for a person it keeps its account and gives back the rest.
        counted = [row for row in rows if row[3] != Status.PAUSED]
        by_site = Counter(row[0] for row in counted)
        limit = {row[0]: row[2] or limits.max_concurrent_per_site for row in counted}
        kept = limits.reserved_for_interactive
        return cls(
            total=len(counted),
            by_site=by_site,
            busy_accounts={row[1] for row in rows},
            full_sites={site for site, n in by_site.items() if n >= limit[site]},
            resting_sites=resting_sites(limits, at=at),
            background_full=len(counted) >= max(1, limits.max_concurrent - kept),
            background_full_sites={
                site for site, n in by_site.items() if n >= max(1, limit[site] - kept)
            },
        )

    @property
    def closed_sites(self) -> set[UUID]:
        """Return where nothing can start now."""
        return self.full_sites | self.resting_sites


def resting_sites(limits: AdmissionLimits, *, at: datetime) -> set[UUID]:
    """Return the sites that are closed, paused or cooling, or whose breaker is open."""
    scheduled = Site.objects.filter(Q(paused=True) | ~Q(closed_hours=[]))
    cooling = Site.objects.filter(cooldown_until__gt=at).values_list("pk", flat=True)
    closed: set[UUID] = hours.closed_sites(scheduled, limits, at=at)
    return closed | set(cooling) | breaker.blocked_sites(at=at)


def _next(state: Occupancy, *, queues: Sequence[str], at: datetime) -> TokenRequest | None:
    heads = _queue(state, queues=queues, at=at).filter(site=OuterRef("pk"))
    site = (
        Site.objects.filter(enabled=True)
        .exclude(pk__in=state.closed_sites)
        .annotate(head_at=Subquery(heads.values("order_at")[:1]))
        .filter(head_at__isnull=False)
        .order_by("head_at")
        .first()
    )
    if site is None:
        return None
    # No join here: with one, SQLite reads and sorts the site's whole queue.
    head = _queue(state, queues=queues, at=at).filter(site=site).first()
    if head:
        head.site = site
    return head


def _queue(
    state: Occupancy, *, queues: Sequence[str], at: datetime
) -> QuerySet[TokenRequest, TokenRequest]:
    allowed = set(queues) - BACKGROUND if state.background_full else set(queues)
    waiting = TokenRequest.objects.runnable(at=at).filter(queue__in=sorted(allowed))
    if state.background_full_sites:
        waiting = waiting.exclude(site__in=state.background_full_sites, queue__in=BACKGROUND)
    return waiting.exclude(account__in=state.busy_accounts).order_by("order_at")


def _admit(
    request: TokenRequest,
    state: Occupancy,
    *,
    owner_id: UUID,
    at: datetime,
    limits: AdmissionLimits,
) -> Claim | None:
    """Start a login for this request, or end or postpone it."""
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
        _set_aside(request, accounts, state, at=at, limits=limits)
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
    limits: AdmissionLimits,
) -> None:
    """Step over a request whose accounts cannot log in now: until when, or for good."""
    judged = selection.judge(accounts, site=request.site, at=at, limits=limits)
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
        state.full_sites.add(request.site_id)
    else:
        TokenRequest.objects.filter(pk=request.pk).update(not_before=min(ends), stage=Stage.WAITING)


def _start(
    request: TokenRequest, account: Account, state: Occupancy, *, owner_id: UUID, at: datetime
) -> Claim | None:
    """Take the request and open its attempt; None if somebody has ended it this moment."""
    taken = TokenRequest.objects.filter(pk=request.pk, status=Status.QUEUED).update(
        status=Status.RUNNING,
        stage=Stage.SELECTING,
        attempts=request.attempts + 1,
        started_at=request.started_at or at,
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
    breaker.admitted(attempt, at=at)
    checkpoints.keep(request.pk)
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
