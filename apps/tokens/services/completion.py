"""Writing the result of a login: one transaction that compares versions before it believes.

The attempt must still be open, and the account must still be in the world the login began in:
same fence, same credentials. Then the token row, the account's record, the request and its
history row change together.
"""

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F

from apps.common import events
from apps.common.crypto import fingerprint
from apps.common.monitoring import timed
from apps.tokens.contracts import LoginGrant, TokenMaterial
from apps.tokens.errors import (
    AccountNeedsAction,
    Blame,
    InvalidCredentials,
    LoginFailure,
    UnexpectedPage,
)
from apps.tokens.models import (
    Account,
    LoginAttempt,
    SecretVerdict,
    Site,
    StoredToken,
    TokenRequest,
)
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import LIVE, Stage, Status
from apps.tokens.services import (
    breaker,
    directory,
    freshness,
    locks,
    lookup,
    outcomes,
    refresh,
    requests,
)

log = structlog.get_logger(__name__)

COOLDOWN_BASE_S: Final = 30.0
COOLDOWN_MAX_S: Final = 3600.0
BACKOFF_BASE_S: Final = 2.0
BACKOFF_MAX_S: Final = 60.0


@timed(events.STORE_S)
def succeed(attempt_id: UUID, grant: LoginGrant, *, refreshed: bool = False) -> bool:
    """Store the token and end the request; False if the result is of an old world.

    Raises UnexpectedPage if the token is over on arrival; the caller reports that as a failure.
    """
    with locks.admission() as at:
        attempt = _close(attempt_id, Outcome.SUCCEEDED, at=at, used_refresh_token=refreshed)
        if attempt is None:
            return False
        if not _same_world(attempt):
            _refuse(attempt, at=at)
            return False
        token = _store_token(attempt, grant, at=at)
        if not refreshed:
            refresh.start_lineage(attempt.account, grant, at=at)
        _credit(attempt, at=at, refreshed=refreshed)
        breaker.succeeded(attempt, at=at)
        directory.forget_results(attempt.site.slug)
        took_s = (at - attempt.started_at).total_seconds()
        _end_served(attempt, token, took_s=took_s, at=at)
        lookup.forget(attempt.account)
    events.login_ended(site=attempt.site.slug, took_s=took_s)
    log.info("login_succeeded", site=attempt.site.slug, took_s=round(took_s, 3))
    return True


def fail(attempt_id: UUID, error: LoginFailure) -> bool:
    """Record a failed login, penalise the guilty part only, and decide about the request.

    False if the result is of an old world.
    """
    with locks.admission() as at:
        facts = {
            "blame": error.blame,
            "error_code": error.code,
            "error_message": error.message[:500],
        }
        attempt = _close(attempt_id, Outcome.FAILED, at=at, **facts)
        if attempt is None:
            return False
        if not _same_world(attempt):
            _keep_verdict(attempt, error, at=at)
            _refuse(attempt, at=at)
            return False
        _penalise(attempt, error, at=at)
        breaker.failed(attempt, error, at=at)
        directory.forget_results(attempt.site.slug)
        after_failure(attempt, error, at=at)
    _measure_failure(attempt, error)
    log.info("login_failed", site=attempt.site.slug, code=error.code, blame=error.blame)
    return True


def lose(attempt: LoginAttempt, error: LoginFailure, *, at: datetime) -> bool:
    """Close the attempt of a dead or silent worker, inside the caller's admission lock."""
    facts = {"blame": error.blame, "error_code": error.code, "error_message": error.message}
    closed = _close(attempt.pk, Outcome.LOST, at=at, **facts)
    if closed is None:
        return False
    breaker.probe_unknown(closed, at=at)
    directory.forget_results(closed.site.slug)
    after_failure(closed, error, at=at)
    transaction.on_commit(partial(_measure_failure, closed, error), robust=True)
    return True


def after_failure(attempt: LoginAttempt, error: LoginFailure, *, at: datetime) -> None:
    """Queue the request again, park it as a dead letter, or end it."""
    request = TokenRequest.objects.get(pk=attempt.request_id)
    if requests.is_unwanted(request.pk):
        outcomes.end(request.pk, Status.CANCELLED, at=at)
        return
    # With any account wanted, what is one account's fault leaves the others to try.
    others = request.account_id is None and error.blame in (Blame.CREDENTIALS, Blame.ACCOUNT)
    facts: dict[str, Any] = {"error_code": error.code, "error_message": error.message[:500]}
    if not error.transient and not others:
        outcomes.end(request.pk, Status.FAILED, at=at, **facts)
    elif request.attempts >= request.max_attempts:
        outcomes.end(request.pk, Status.DEAD, at=at, **facts)
    else:
        wait_s = 0.0 if others else backoff_s(request.attempts, error.retry_after_s)
        TokenRequest.objects.filter(pk=request.pk, status__in=LIVE).update(
            status=Status.QUEUED,
            stage=Stage.WAITING,
            not_before=at + timedelta(seconds=wait_s),
            set_aside=wait_s > 0,
            **facts,
        )


def backoff_s(attempts: int, retry_after_s: float | None = None) -> float:
    """Return the wait before the next attempt: exponential with full jitter, 60 s at most.

    Full jitter (uniform from 0) spreads retries best; see Brooker, "Exponential Backoff and
    Jitter", 2015. A site's Retry-After is a floor.
    """
    ceiling = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2 ** max(0, attempts - 1))
    return max(retry_after_s or 0.0, random.uniform(0, ceiling))  # noqa: S311 - no secret


def token_fingerprint(material: TokenMaterial) -> str:
    """Return the name by which consumers and audit lines refer to a token."""
    plain = lookup.material_to_plain(material)
    secret = plain["bearer"] or repr(sorted(plain.items(), key=lambda item: item[0]))
    return fingerprint(secret.encode(), purpose="token")


def _close(
    attempt_id: UUID, outcome: Outcome, *, at: datetime, **facts: object
) -> LoginAttempt | None:
    """Close an open attempt; None if somebody else has closed it."""
    changed = LoginAttempt.objects.filter(pk=attempt_id, outcome=Outcome.OPEN).update(
        outcome=outcome, finished_at=at, **facts
    )
    if not changed:
        return None
    return LoginAttempt.objects.select_related("site", "account__site").get(pk=attempt_id)


def _measure_failure(attempt: LoginAttempt, error: LoginFailure) -> None:
    ended = attempt.finished_at or attempt.started_at
    took_s = (ended - attempt.started_at).total_seconds()
    events.login_ended(
        site=attempt.site.slug, took_s=took_s, error_type=error.error_type, code=error.code
    )


def _same_world(attempt: LoginAttempt) -> bool:
    """Compare the versions. Whoever changes them holds the admission lock, as the caller does."""
    same = Account.objects.filter(
        pk=attempt.account_id,
        fence=attempt.fence,
        credential_version=attempt.credential_version,
    )
    return same.exists()


def _refuse(attempt: LoginAttempt, *, at: datetime) -> None:
    """Forget a result of an old world; the request starts again in the new one."""
    LoginAttempt.objects.filter(pk=attempt.pk).update(outcome=Outcome.SUPERSEDED)
    breaker.probe_unknown(attempt, at=at)
    if requests.is_unwanted(attempt.request_id):
        outcomes.end(attempt.request_id, Status.CANCELLED, at=at)
    TokenRequest.objects.filter(pk=attempt.request_id, status=Status.RUNNING).update(
        status=Status.QUEUED, stage=Stage.WAITING, not_before=at, attempts=F("attempts") - 1
    )
    log.info("login_superseded", site=attempt.site.slug)


def _store_token(attempt: LoginAttempt, grant: LoginGrant, *, at: datetime) -> StoredToken:
    site = attempt.site
    expires_at = grant.expires_at or at + timedelta(seconds=site.default_ttl_s)
    life_s = (expires_at - at).total_seconds()
    if life_s <= 0:
        raise UnexpectedPage("The site gave a token that is over already; compare the clocks.")
    margin_s = min(site.safety_margin_s, life_s / 2)
    Site.objects.filter(pk=site.pk).update(
        token_serial=F("token_serial") + 1, observed_ttl_s=int(life_s)
    )
    site.refresh_from_db(fields=["token_serial"])
    token = StoredToken.objects.filter(account=attempt.account).first()
    token = token or StoredToken(account=attempt.account)
    token.version = site.token_serial
    token.material = lookup.material_to_plain(grant.material)
    token.fingerprint = token_fingerprint(grant.material)
    token.issued_at = at
    token.expires_at = expires_at
    token.usable_until = expires_at - timedelta(seconds=margin_s)
    token.refresh_after = freshness.refresh_after(
        site, issued_at=at, usable_until=token.usable_until
    )
    token.idle_ttl_s = int(grant.idle_ttl_s) if grant.idle_ttl_s else None
    token.idle_until = at + timedelta(seconds=grant.idle_ttl_s) if grant.idle_ttl_s else None
    token.revoked_at, token.revoked_reason = None, ""
    token.save()
    return token


def _credit(attempt: LoginAttempt, *, at: datetime, refreshed: bool) -> None:
    """A success clears what was held against the account, and proves its secret."""
    Account.objects.filter(pk=attempt.account_id).update(
        success_count=F("success_count") + 1,
        failures_in_a_row=0,
        last_success_at=at,
        cooldown_until=None,
        cooldown_reason="",
    )
    if attempt.secret_sent_at and not refreshed:
        SecretVerdict.objects.update_or_create(
            account_id=attempt.account_id,
            fingerprint=attempt.secret_fingerprint,
            defaults={"proven_at": at, "wrong_at": None, "allowed_once_at": None},
        )


def _keep_verdict(attempt: LoginAttempt, error: LoginFailure, *, at: datetime) -> None:
    """Keep what the site said of the secret where only a token was revoked meanwhile.

    That word is as true as before; without it the same wrong secret would be sent again.
    """
    same_secret = Account.objects.filter(
        pk=attempt.account_id, credential_version=attempt.credential_version
    )
    if isinstance(error, InvalidCredentials) and same_secret.exists():
        _call_wrong(attempt, at=at)


def _call_wrong(attempt: LoginAttempt, *, at: datetime) -> None:
    SecretVerdict.objects.update_or_create(
        account_id=attempt.account_id,
        fingerprint=attempt.secret_fingerprint,
        defaults={"wrong_at": at, "proven_at": None, "allowed_once_at": None},
    )


def _penalise(attempt: LoginAttempt, error: LoginFailure, *, at: datetime) -> None:
    if error.blame not in (Blame.CREDENTIALS, Blame.ACCOUNT):
        return
    account = attempt.account
    facts: dict[str, object] = {
        "failure_count": F("failure_count") + 1,
        "failures_in_a_row": F("failures_in_a_row") + 1,
        "last_failure_at": at,
        "last_failure_code": error.code,
    }
    if isinstance(error, InvalidCredentials):
        _call_wrong(attempt, at=at)
    elif isinstance(error, AccountNeedsAction):
        facts["needs_action"] = error.message[:300]
    else:
        # The exponent is bounded too: after 1,024 failures the power itself would overflow.
        grown_s = min(COOLDOWN_MAX_S, COOLDOWN_BASE_S * 2 ** min(account.failures_in_a_row, 32))
        wait_s = max(error.retry_after_s or 0.0, grown_s)
        facts |= {"cooldown_until": at + timedelta(seconds=wait_s), "cooldown_reason": error.code}
    Account.objects.filter(pk=account.pk).update(**facts)


def _end_served(attempt: LoginAttempt, token: StoredToken, *, took_s: float, at: datetime) -> None:
    """End the request, and every queued one that this token serves as well."""
    facts: dict[str, Any] = {
        "served_by": attempt.account.username,
        "token_fingerprint": token.fingerprint,
        "error_code": "",
        "error_message": "",
    }
    outcomes.end(attempt.request_id, Status.DONE, at=at, login_s=took_s, **facts)
    others = TokenRequest.objects.live().filter(
        site=attempt.site,
        requested_key__in=["", str(attempt.account_id)],
        status=Status.QUEUED,
        newer_than__lt=token.version,
    )
    for pk in others.order_by().values_list("pk", flat=True):
        outcomes.end(pk, Status.DONE, at=at, only_if=Status.QUEUED, **facts)
