"""Checking, issuing and revoking keys; the one place that decides who a caller is."""

import functools
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.db.models import Q
from rest_framework.request import Request

from apps.access import keytext, outage, selectors
from apps.access.contracts import Grant, Principal, Scope
from apps.access.keycache import CACHE, DIRECTORY_FOR_S
from apps.access.keytext import KeyText
from apps.access.models import ApiKey, SiteGrant
from apps.common import clock
from apps.common.errors import (
    DatabaseUnavailable,
    NotAuthenticated,
    NotPermitted,
    ValidationFailed,
)

log = structlog.get_logger(__name__)

WRITE_LAST_USED_EVERY: Final = timedelta(minutes=1)
REFUSAL: Final = "Send a valid API key."


def authenticate(raw_key: str) -> Principal:
    """Return the caller this key stands for.

    A principal is at most LATCHKEY_L1_MAX_AGE_S old. While the database is down one that was
    confirmed within LATCHKEY_OUTAGE_GRACE_S still serves. Raises NotAuthenticated, with the same
    answer for malformed, unknown, expired and revoked keys; DatabaseUnavailable.
    """
    text = keytext.parse(raw_key)
    known = CACHE.known(text.digest)
    if known and known.serves(max_age_s=settings.LATCHKEY_L1_MAX_AGE_S, at=clock.now()):
        return known.principal
    if CACHE.is_wrong(text.digest):
        raise NotAuthenticated(REFUSAL)
    try:
        # Keys seen good before do not draw on the strangers' budget.
        if known is None and not CACHE.take_lookup() and text.digest not in _directory():
            raise NotAuthenticated(REFUSAL)
        return _look_up(text)
    except DatabaseUnavailable:
        if known and known.serves(max_age_s=settings.LATCHKEY_OUTAGE_GRACE_S, at=clock.now()):
            return known.principal
        raise


def authenticate_held(raw_key: str) -> Principal | None:
    """Return the caller if this process checked the key lately; None means: call `authenticate`.

    Never waits and never asks the database, so an event loop may call it.
    """
    known = CACHE.known(keytext.parse(raw_key).digest)
    if known and known.serves(max_age_s=settings.LATCHKEY_L1_MAX_AGE_S, at=clock.now()):
        return known.principal
    return None


def _look_up(text: KeyText) -> Principal:
    began = clock.monotonic()
    principal = outage.ask(functools.partial(_load, text))
    if principal is None:
        CACHE.remember_wrong(text.digest)
        raise NotAuthenticated(REFUSAL)
    CACHE.remember(text.digest, principal, confirmed_at=began)
    return principal


def _load(text: KeyText) -> Principal | None:
    now = clock.now()
    key = selectors.usable_key(text, at=now)
    if key is None:
        return None
    if key.last_used_at is None or key.last_used_at < now - WRITE_LAST_USED_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - WRITE_LAST_USED_EVERY)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
    return selectors.principal_of_key(key)


def _directory() -> frozenset[str]:
    """Return all usable digests, at most a second old: one query a second in a flood."""
    with CACHE.directory_lock:
        held = CACHE.directory
        if held is None or clock.monotonic() - held[0] >= DIRECTORY_FOR_S:
            digests = outage.ask(lambda: selectors.usable_digests(at=clock.now()))
            held = CACHE.directory = (clock.monotonic(), digests)
        return held[1]


def principal_of(request: Request) -> Principal:
    """Return the caller of a DRF request, by key or session. Raises NotAuthenticated."""
    if isinstance(request.auth, Principal):
        return request.auth
    if request.user is None:
        raise NotAuthenticated
    return selectors.principal_of_user(request.user)


def require(principal: Principal, scope: str) -> None:
    """Raise NotPermitted unless the caller holds the scope."""
    if not principal.has(scope):
        raise NotPermitted(f"This needs the scope {scope}.", details={"scope": str(scope)})


def issue_key(
    *,
    user: AbstractBaseUser | int,
    name: str,
    scopes: Collection[str] = (),
    grants: Collection[Grant] = (),
    expires_at: datetime | None = None,
    rate_limit_per_minute: int | None = None,
    issuer: Principal | None,
) -> tuple[ApiKey, str]:
    """Make a key and return its row and its text; the text is not kept anywhere.

    `issuer` None is an operator at the command line, who may give anything. Raises NotPermitted
    if the issuer would give more than it holds; ValidationFailed.
    """
    _check_wanted(scopes, expires_at, rate_limit_per_minute)
    if issuer is not None:
        _check_issuer(issuer, scopes, grants, expires_at, rate_limit_per_minute)
    raw, text = keytext.generate()
    with transaction.atomic():
        key = ApiKey.objects.create(
            user_id=user if isinstance(user, int) else user.pk,
            name=name,
            prefix=text.prefix,
            digest=text.digest,
            scopes=sorted({str(scope) for scope in scopes}),
            expires_at=expires_at,
            rate_limit_per_minute=rate_limit_per_minute,
        )
        SiteGrant.objects.bulk_create(
            SiteGrant(key=key, site=grant.site, account=grant.account, label=grant.label)
            for grant in dict.fromkeys(grants)
        )
    log.info("key_issued", prefix=key.prefix, name=key.name, user=key.user_id)
    return key, raw


def revoke_key(key: ApiKey) -> bool:
    """Revoke a key for good; other processes follow within LATCHKEY_L1_MAX_AGE_S.

    Returns False if it was revoked before; the first time stands.
    """
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now())
    CACHE.forget(key.digest)
    if changed:
        log.info("key_revoked", prefix=key.prefix, name=key.name)
    return changed == 1


def _check_wanted(
    scopes: Collection[str], expires_at: datetime | None, rate_limit_per_minute: int | None
) -> None:
    unknown = sorted(set(scopes) - set(Scope))
    if unknown:
        raise ValidationFailed("There is no such scope.", details={"scopes": unknown})
    if expires_at is not None and expires_at <= clock.now():
        raise ValidationFailed("The key would have expired already.")
    if rate_limit_per_minute is not None and rate_limit_per_minute < 1:
        raise ValidationFailed("A rate limit is at least 1 a minute.")


def _check_issuer(
    issuer: Principal,
    scopes: Collection[str],
    grants: Collection[Grant],
    expires_at: datetime | None,
    rate_limit_per_minute: int | None,
) -> None:
    """Refuse what would give the new key more, longer or faster access than the issuer has."""
    extra = sorted(set(scopes) - issuer.scopes)
    if extra:
        raise NotPermitted("You cannot give scopes you do not hold.", details={"scopes": extra})
    beyond = [grant.site for grant in grants if not issuer.may_give(grant)]
    if beyond:
        raise NotPermitted("You cannot give grants you do not hold.", details={"sites": beyond})
    if issuer.expires_at and (expires_at is None or expires_at > issuer.expires_at):
        raise NotPermitted("The key cannot outlive the key that makes it.")
    if issuer.kind == "key" and _limit(rate_limit_per_minute) > _limit(
        issuer.rate_limit_per_minute
    ):
        raise NotPermitted("The key cannot be faster than the key that makes it.")


def _limit(rate_limit_per_minute: int | None) -> int:
    return rate_limit_per_minute or int(settings.LATCHKEY_RATE_LIMIT_PER_MINUTE)
