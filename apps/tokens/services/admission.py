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

from django.db.models import OuterRef, QuerySet, Subquery

from apps.tokens.contracts import Credentials, SiteConfig
from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, Site, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Stage, Status
from apps.tokens.services import locks, lookup, outcomes, selection
from apps.tokens.services.accounts import credentials_of
from apps.tokens.services.sites import site_config

# One claim looks at this many requests that turn out not to need or not to get a login; the
# transaction stays short, and the next claim goes on behind them.
MAX_STEPS: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A login that this worker, and no other, is to make now."""

    attempt_id: UUID
    request_id: UUID
    site: SiteConfig
    account_id: UUID
    credentials: Credentials = field(repr=False)
    fence: int
    credential_version: int
    secret_fingerprint: str
    resend_in_doubt: bool


def claim(*, owner_id: UUID, queues: Sequence[str]) -> Claim | None:
    """Claim the next login for this worker process, or None if nothing can start now.

    Also ends requests that need no login any more (a fresh enough token has appeared) and those
    that nobody can serve.
    """
    with locks.admission() as at:
        limits = AdmissionLimits.current()
        state = _Occupancy.read(limits)
        for _ in range(MAX_STEPS):
            if state.total >= limits.max_concurrent:
                return None
            request = _next(state, queues=queues, at=at)
            if request is None:
                return None
            made = _admit(request, state, owner_id=owner_id, at=at, limits=limits)
            if made:
                return made
        return None


def claim_this(request_id: UUID, *, owner_id: UUID) -> Claim | None:
    """Claim one request out of turn, within all limits; None if it cannot start now.

    For a person who wants to watch a login; `not_before` keeps the workers from taking it first.
    """
    with locks.admission() as at:
        limits = AdmissionLimits.current()
        state = _Occupancy.read(limits)
        request = (
            TokenRequest.objects.select_related("site", "account")
            .filter(pk=request_id, status=Status.QUEUED)
            .exclude(site__in=state.closed_sites)
            .first()
        )
        if request is None or state.total >= limits.max_concurrent:
            return None
        return _admit(request, state, owner_id=owner_id, at=at, limits=limits)


@dataclass(slots=True)
class _Occupancy:
    """Who holds permits now, and what this round has found to be of no use."""

    total: int
    by_site: Counter[UUID]
    busy_accounts: set[UUID]
    closed_sites: set[UUID]

    @classmethod
    def read(cls, limits: AdmissionLimits) -> "_Occupancy":
        rows = list(
            LoginAttempt.objects.filter(outcome=Outcome.OPEN)
            .order_by()
            .values_list("site_id", "account_id", "site__max_concurrent", "request__status")
        )
        # While a login waits for a person it keeps its account and gives back the rest.
        counted = [row for row in rows if row[3] != Status.PAUSED]
        by_site = Counter(row[0] for row in counted)
        limit = {row[0]: row[2] or limits.max_concurrent_per_site for row in counted}
        return cls(
            total=len(counted),
            by_site=by_site,
            busy_accounts={row[1] for row in rows},
            closed_sites={site for site, n in by_site.items() if n >= limit[site]},
        )


def _next(state: _Occupancy, *, queues: Sequence[str], at: datetime) -> TokenRequest | None:
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
    head = _queue(state, queues=queues, at=at).filter(site=site)
    return head.select_related("site", "account").first()


def _queue(
    state: _Occupancy, *, queues: Sequence[str], at: datetime
) -> QuerySet[TokenRequest, TokenRequest]:
    waiting = TokenRequest.objects.runnable(at=at).filter(queue__in=queues)
    return waiting.exclude(account__in=state.busy_accounts).order_by("order_at")


def _admit(
    request: TokenRequest,
    state: _Occupancy,
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
    accounts = Account.objects.filter(site=request.site)
    if request.account_id:
        accounts = accounts.filter(pk=request.account_id)
    account = selection.choose(accounts, strategy=request.site.strategy, at=at, limits=limits)
    if account is None:
        _set_aside(request, accounts, state, at=at, limits=limits)
        return None
    return _start(request, account, state, owner_id=owner_id, at=at)


def _served_meanwhile(request: TokenRequest, *, at: datetime) -> bool:
    """End the request without a login if a fresh enough token is in storage by now."""
    name = request.account.username if request.account else None
    view = lookup.stored(request.site.slug, name, at=at)
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
    state: _Occupancy,
    *,
    at: datetime,
    limits: AdmissionLimits,
) -> None:
    """Step over a request whose accounts cannot log in now: until when, or for good."""
    reasons = [
        reason
        for account in selection.with_facts(accounts)
        if (reason := selection.why_not(account, at=at, limits=limits))
    ]
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
        state.closed_sites.add(request.site_id)
    else:
        TokenRequest.objects.filter(pk=request.pk).update(not_before=min(ends), stage=Stage.WAITING)


def _start(
    request: TokenRequest, account: Account, state: _Occupancy, *, owner_id: UUID, at: datetime
) -> Claim:
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
    TokenRequest.objects.filter(pk=request.pk, status=Status.QUEUED).update(
        status=Status.RUNNING,
        stage=Stage.SELECTING,
        attempts=request.attempts + 1,
        started_at=request.started_at or at,
    )
    Account.objects.filter(pk=account.pk).update(last_attempt_at=at)
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
    )
