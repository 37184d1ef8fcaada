"""The small model that the rows are compared with, and the words of the state machine.

The model keeps what the rules need to remember: which secrets were called wrong, allowed or sent
in doubt, which versions and fences were seen, and when budgets and rests end. All of it is kept
apart from the rows; what is the same in both (who is queued, what is open) is read.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F

from apps.tokens import errors
from apps.tokens.models import (
    Account,
    LoginAttempt,
    RefreshToken,
    SecretVerdict,
    Site,
    SiteBreaker,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)

FAILURES = (
    "InvalidCredentials", "OneTimeCodeRejected", "AccountLocked", "AccountNeedsAction",
    "RateLimited", "SiteUnavailable", "LoginTimedOut", "UnexpectedPage", "NetworkFailure",
    "RecipeError", "LeaseLost", "WorkerFailed",
)  # fmt: skip
IN_DOUBT = {"LoginTimedOut", "NetworkFailure", "LeaseLost", "WorkerFailed"}
SITE_FAULTS = {"SiteUnavailable", "LoginTimedOut", "UnexpectedPage"}

# Every time a row carries; letting time pass moves all of them back, and nothing sleeps.
TIMES: dict[type[Any], tuple[str, ...]] = {
    Site: ("cooldown_until", "paused_until"),
    Account: ("cooldown_until", "last_success_at", "last_failure_at", "last_attempt_at"),
    TokenRequest: ("order_at", "not_before", "expires_at", "created_at", "started_at"),
    LoginAttempt: ("started_at", "deadline", "finished_at", "secret_sent_at"),
    SiteBreaker: ("open_until", "counted_since", "healthy_at", "health_until", "changed_at"),
    StoredToken: ("issued_at", "expires_at", "usable_until", "refresh_after", "idle_until"),
    RefreshToken: ("expires_at",),
    WorkerProcess: ("lease_until",),
}


def let_pass(seconds: int) -> None:
    """Move every time of every row back: for the rules, this many seconds have passed."""
    for model, names in TIMES.items():
        model.objects.update(**{name: F(name) - timedelta(seconds=seconds) for name in names})


@dataclass(slots=True)
class Flight:
    """A login that was admitted and whose result is not written yet."""

    attempt_id: UUID
    request_id: UUID
    account_id: UUID
    site: str
    fence: int
    credential_version: int
    secret: str
    sent: bool = False


@dataclass(slots=True)
class Knowledge:
    """What the model remembers of one account's secrets."""

    secret: str
    version: int = 1
    fence: int = 1
    wrong: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=set)
    doubts: Counter[str] = field(default_factory=Counter)

    def may_send(self, resends: int) -> bool:
        """Say whether the present secret may leave for the site."""
        if self.secret in self.allowed:
            return True
        if self.secret in self.wrong:
            return False
        return self.secret in self.proven or self.doubts[self.secret] <= resends


def failure(name: str, retry_after_s: float | None = None) -> errors.LoginFailure:
    found: errors.LoginFailure = getattr(errors, name)(retry_after_s=retry_after_s)
    return found


def snapshot(account_id: UUID) -> tuple[Any, ...]:
    """Return everything a login's result may change about an account."""
    fields = (
        "failure_count", "success_count", "failures_in_a_row", "cooldown_until",
        "needs_action", "last_failure_code", "fence", "credential_version",
    )  # fmt: skip
    tokens = StoredToken.objects.filter(account=account_id)
    verdicts = SecretVerdict.objects.filter(account=account_id).order_by("fingerprint")
    return (
        Account.objects.filter(pk=account_id).values_list(*fields).get(),
        list(tokens.values_list("version", "fingerprint", "revoked_at")),
        list(verdicts.values_list("fingerprint", "wrong_at", "proven_at")),
    )
