"""Which account logs in. One predicate says who may; a strategy says who does."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, SecretVerdict, Site
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.sites import Strategy

# The score of a best-score selection, as the requirements give it (row A4).
RECENCY_POINTS: Final = 100.0  # for a success right now, minus one for each hour since
SUCCESS_POINTS: Final = 50  # one for each success, at most this many
RATE_POINTS: Final = 20.0  # times the success rate
NEW_ACCOUNT_POINTS: Final = 10.0  # instead of the rate where nothing is known

# The columns that eligibility depends on: `only(*COLUMNS)` where nothing else of a row is read.
COLUMNS: Final = ("enabled", "needs_action", "cooldown_until", "cooldown_reason")
# The logins of so few accounts are found by account, of more by site.
FEW: Final = 100

# After these ends it is not known what the site made of a secret that had been sent.
IN_DOUBT_CODES: Final = ("login_timeout", "network_error", "lease_lost", "worker_failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ineligible:
    """Why an account may not log in now; `until` None means: until somebody acts."""

    code: str
    until: datetime | None = None


def with_facts(accounts: QuerySet[Account]) -> QuerySet[Account]:
    """Annotate what eligibility depends on.

    `is_busy`, `is_wrong`, `is_proven`, `is_allowed_once`; `doubts`, the unproven sendings whose
    end is unknown; `spent_since`, the start of the login that must leave the budget's window
    before another may begin (NULL while the budget is not spent).
    """
    own_attempts = LoginAttempt.objects.filter(account=OuterRef("pk"))
    verdicts = SecretVerdict.objects.filter(
        account=OuterRef("pk"), fingerprint=OuterRef("secret_fingerprint")
    )
    in_doubt = (
        own_attempts.filter(
            Q(outcome=Outcome.LOST)
            | Q(
                outcome__in=[Outcome.FAILED, Outcome.SUPERSEDED],
                error_code__in=IN_DOUBT_CODES,
            ),
            secret_fingerprint=OuterRef("secret_fingerprint"),
            secret_sent_at__isnull=False,
        )
        .order_by()
        .values("account")
        .annotate(n=Count("pk"))
        .values("n")
    )
    return accounts.annotate(
        is_busy=Exists(own_attempts.filter(outcome=Outcome.OPEN)),
        is_wrong=Exists(verdicts.filter(wrong_at__isnull=False, allowed_once_at=None)),
        is_proven=Exists(verdicts.filter(proven_at__isnull=False)),
        is_allowed_once=Exists(verdicts.filter(allowed_once_at__isnull=False)),
        doubts=Coalesce(Subquery(in_doubt), Value(0)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An account that went through `with_facts`, and why it may not log in (None: it may)."""

    account: Account
    why_not: Ineligible | None


def judge(
    accounts: QuerySet[Account], *, site: Site, at: datetime, limits: AdmissionLimits
) -> list[Judged]:
    """Say of each of these accounts of a site whether it may log in at `at`, and why not.

    This is the one predicate of eligibility: selection, refusals, health and explanations all
    go by it, so none of them can promise what another denies.
    """
    rows = list(with_facts(accounts))
    recent = LoginAttempt.objects.filter(account__in=rows)
    spent = _spent_budgets(recent, sites=[site], at=at)
    return [
        Judged(account=row, why_not=_why_not(row, spent=spent, at=at, limits=limits))
        for row in rows
    ]


def judge_all(
    accounts: QuerySet[Account], *, at: datetime, limits: AdmissionLimits
) -> list[Judged]:
    """Do as `judge` for accounts of any sites, selected with their sites.

    Two or three queries in all, one or two more for each further length of a budget's window.
    """
    rows = list(with_facts(accounts))
    sites = {row.site_id: row.site for row in rows}.values()
    spent: dict[UUID, datetime] = {}
    for window_s in {site.budget_window_s for site in sites}:
        alike = [site for site in sites if site.budget_window_s == window_s]
        logins = LoginAttempt.objects.filter(site__in=alike)
        if len(rows) <= FEW:
            logins = logins.filter(account__in=rows)
        spent |= _spent_budgets(logins, sites=alike, at=at)
    return [
        Judged(account=row, why_not=_why_not(row, spent=spent, at=at, limits=limits))
        for row in rows
    ]


def choose(
    accounts: QuerySet[Account],
    *,
    site: Site,
    at: datetime,
    limits: AdmissionLimits,
    tried: Collection[UUID] = (),
) -> Account | None:
    """Return the account to log in with, or None if none is eligible.

    One that this request has not `tried` comes first, then a preferred one, whatever the
    strategy; ties go to the one that waited longest.
    """
    judged = judge(accounts, site=site, at=at, limits=limits)
    candidates = [found.account for found in judged if found.why_not is None]
    if not candidates:
        return None
    return min(candidates, key=lambda account: rank(account, site=site, at=at, tried=tried))


def rank(
    account: Account, *, site: Site, at: datetime, tried: Collection[UUID] = ()
) -> tuple[bool, bool, float, float, str]:
    """Return the sort key of an eligible account: the smallest goes first."""
    last = account.last_attempt_at.timestamp() if account.last_attempt_at else 0.0
    # Least recently used and round robin are both "the one whose last turn is longest ago";
    # they differ in what a turn is: a success, or any attempt.
    points = 0.0
    if site.strategy == Strategy.BEST_SCORE:
        points = -score(account, at=at)
    elif site.strategy == Strategy.LEAST_RECENTLY_USED:
        points = account.last_success_at.timestamp() if account.last_success_at else 0.0
    return (account.pk in tried, not account.preferred, points, last, account.username)


def score(account: Account, *, at: datetime) -> float:
    """Return the points of row A4: recency of the last success, successes, success rate."""
    recency = 0.0
    if account.last_success_at:
        hours = (at - account.last_success_at).total_seconds() / 3600
        recency = max(0.0, RECENCY_POINTS - max(0.0, hours))
    tries = account.success_count + account.failure_count
    rate = RATE_POINTS * account.success_count / tries if tries else NEW_ACCOUNT_POINTS
    return recency + min(account.success_count, SUCCESS_POINTS) + rate


def _why_not(
    account: Account, *, spent: Mapping[UUID, datetime], at: datetime, limits: AdmissionLimits
) -> Ineligible | None:
    facts = vars(account)
    allowed = facts["is_proven"] or facts["is_allowed_once"]
    for_good = (
        (not account.enabled, "account_disabled"),
        (bool(account.needs_action), "account_needs_action"),
        (facts["is_wrong"], "secret_known_wrong"),
        (not allowed and facts["doubts"] > limits.in_doubt_resends, "secret_in_doubt"),
    )
    for is_so, code in for_good:
        if is_so:
            return Ineligible(code=code)
    if account.cooldown_until and account.cooldown_until > at:
        return Ineligible(code=account.cooldown_reason or "cooling", until=account.cooldown_until)
    if account.pk in spent:
        return Ineligible(code="account_budget_spent", until=spent[account.pk])
    return Ineligible(code="account_busy", until=at) if facts["is_busy"] else None


def _spent_budgets(
    logins: QuerySet[LoginAttempt], *, sites: Collection[Site], at: datetime
) -> dict[UUID, datetime]:
    """Return when each account whose login budget is spent may log in again.

    The sites' windows are equally long; `logins` are those of their accounts to look at.
    """
    budgets = {site.pk: site.budget_per_account for site in sites}
    window = max((timedelta(seconds=site.budget_window_s) for site in sites), default=timedelta())
    recent = logins.filter(started_at__gt=at - window)
    counts = recent.order_by().values_list("site", "account").annotate(n=Count("pk"))
    spent = {pk: budgets[site] for site, pk, n in counts if n >= budgets[site]}
    if not spent:
        return {}
    starts: defaultdict[UUID, list[datetime]] = defaultdict(list)
    newest_first = recent.filter(account__in=spent).order_by("-started_at")
    for pk, started_at in newest_first.values_list("account", "started_at"):
        starts[pk].append(started_at)
    # One may have begun since they were counted: the newest of the budget decides all the same.
    return {pk: starts[pk][budget - 1] + window for pk, budget in spent.items()}


def nth_newest(logins: QuerySet[LoginAttempt], n: int) -> datetime:
    """Return when the n-th newest of these logins began; there must be as many."""
    return logins.order_by("-started_at").values_list("started_at", flat=True)[n - 1]
