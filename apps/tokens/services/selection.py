"""Which account logs in. One predicate says who may; a strategy says who does."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, SecretVerdict
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.sites import Strategy

# The score of a best-score selection, as the requirements give it (row A4).
RECENCY_POINTS: Final = 100.0  # for a success right now, minus one for each hour since
SUCCESS_POINTS: Final = 50  # one for each success, at most this many
RATE_POINTS: Final = 20.0  # times the success rate
NEW_ACCOUNT_POINTS: Final = 10.0  # instead of the rate where nothing is known

# After these ends it is not known what the site made of a secret that had been sent.
IN_DOUBT_CODES: Final = ("login_timeout", "network_error", "lease_lost", "worker_failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ineligible:
    """Why an account may not log in now; `until` None means: until somebody acts."""

    code: str
    until: datetime | None = None


def with_facts(accounts: QuerySet[Account]) -> QuerySet[Account]:
    """Annotate what eligibility depends on: `is_busy`, `is_wrong`, `is_proven`, `doubts`."""
    own_attempts = LoginAttempt.objects.filter(account=OuterRef("pk"))
    verdicts = SecretVerdict.objects.filter(
        account=OuterRef("pk"), fingerprint=OuterRef("secret_fingerprint")
    )
    in_doubt = (
        own_attempts.filter(
            Q(outcome=Outcome.LOST) | Q(outcome=Outcome.FAILED, error_code__in=IN_DOUBT_CODES),
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


def eligible(
    accounts: QuerySet[Account], *, at: datetime, limits: AdmissionLimits
) -> QuerySet[Account]:
    """Return those that may log in at `at`; the same predicate for selection and for health."""
    annotated: Any = with_facts(accounts)  # the type checker does not see annotations
    usable: QuerySet[Account] = annotated.filter(
        Q(is_proven=True) | Q(is_allowed_once=True) | Q(doubts__lte=limits.in_doubt_resends),
        Q(cooldown_until=None) | Q(cooldown_until__lte=at),
        enabled=True,
        needs_action="",
        is_busy=False,
        is_wrong=False,
    )
    return usable


def why_not(account: Account, *, at: datetime, limits: AdmissionLimits) -> Ineligible | None:
    """Explain one account that went through `with_facts`; None if it is eligible."""
    facts = vars(account)
    if not account.enabled:
        return Ineligible(code="account_disabled")
    if account.needs_action:
        return Ineligible(code="account_needs_action")
    if facts["is_wrong"]:
        return Ineligible(code="secret_known_wrong")
    allowed = facts["is_proven"] or facts["is_allowed_once"]
    if not allowed and facts["doubts"] > limits.in_doubt_resends:
        return Ineligible(code="secret_in_doubt")
    if account.cooldown_until and account.cooldown_until > at:
        return Ineligible(code=account.cooldown_reason or "cooling", until=account.cooldown_until)
    if facts["is_busy"]:
        return Ineligible(code="account_busy", until=at)
    return None


def choose(
    accounts: QuerySet[Account], *, strategy: str, at: datetime, limits: AdmissionLimits
) -> Account | None:
    """Return the account to log in with, or None if none is eligible.

    Preferred accounts come first whatever the strategy; ties go to the one that waited longest.
    """
    candidates = list(eligible(accounts, at=at, limits=limits))
    if not candidates:
        return None
    return min(candidates, key=lambda account: _rank(account, strategy=strategy, at=at))


def score(account: Account, *, at: datetime) -> float:
    """Return the points of row A4: recency of the last success, successes, success rate."""
    recency = 0.0
    if account.last_success_at:
        hours = (at - account.last_success_at).total_seconds() / 3600
        recency = max(0.0, RECENCY_POINTS - max(0.0, hours))
    tries = account.success_count + account.failure_count
    rate = RATE_POINTS * account.success_count / tries if tries else NEW_ACCOUNT_POINTS
    return recency + min(account.success_count, SUCCESS_POINTS) + rate


def _rank(account: Account, *, strategy: str, at: datetime) -> tuple[bool, float, float, str]:
    last = account.last_attempt_at.timestamp() if account.last_attempt_at else 0.0
    # Round robin takes turns by name after the one used last; with the time of the last attempt
    # as the turn, both remaining strategies are "the one that waited longest".
    points = -score(account, at=at) if strategy == Strategy.BEST_SCORE else 0.0
    return (not account.preferred, points, last, account.username)
