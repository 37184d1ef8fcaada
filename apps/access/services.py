"""Who a caller is and what it may do; the one place that decides it."""

import functools
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Q
from rest_framework.request import Request

from apps.access import keytext, outage, selectors
from apps.access.contracts import Principal
from apps.access.issuing import check_issuable, issue_key, revoke_key
from apps.access.keycache import CACHE, DIRECTORY_FOR_S
from apps.access.keytext import KeyText
from apps.access.models import ApiKey
from apps.common import clock
from apps.common.errors import DatabaseUnavailable, NotAuthenticated, NotPermitted

__all__ = [
    "authenticate",
    "authenticate_held",
    "check_issuable",
    "issue_key",
    "knows_somebody",
    "principal_of",
    "require",
    "revoke_key",
]

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
        return _look_up(text) if known is None else _confirm(text)
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


def knows_somebody() -> bool:
    """Say whether a key would still be let in here with the database away."""
    return CACHE.serves_any(max_age_s=settings.LATCHKEY_OUTAGE_GRACE_S)


def _look_up(text: KeyText) -> Principal:
    began = clock.monotonic()
    principal = outage.ask(functools.partial(_load, text))
    if principal is None:
        CACHE.remember_wrong(text.digest)
        raise NotAuthenticated(REFUSAL)
    CACHE.remember(text.digest, principal, confirmed_at=began)
    return principal


def _confirm(text: KeyText) -> Principal:
    """Ask for this key again, and in the same breath for others that came and will soon be due.

    A query for a hundred keys costs what two for one do; a hundred callers made a hundred of them.
    """
    began = clock.monotonic()
    due = {text.digest, *CACHE.due(age_s=settings.LATCHKEY_L1_MAX_AGE_S / 2)}
    found = outage.ask(functools.partial(_load_again, due))
    for digest in due:
        if principal := found.get(digest):
            CACHE.remember(digest, principal, confirmed_at=began)
        else:
            CACHE.remember_wrong(digest)
    if text.digest not in found:
        raise NotAuthenticated(REFUSAL)
    return found[text.digest]


def _load(text: KeyText) -> Principal | None:
    now = clock.now()
    key = selectors.usable_key(text, at=now)
    if key is None:
        return None
    _write_last_use([key], now)
    return selectors.principal_of_key(key)


def _load_again(digests: Collection[str]) -> dict[str, Principal]:
    now = clock.now()
    keys = selectors.usable_keys(digests, at=now)
    _write_last_use(keys, now)
    return {key.digest: selectors.principal_of_key(key) for key in keys}


def _write_last_use(keys: Iterable[ApiKey], now: datetime) -> None:
    before = now - WRITE_LAST_USED_EVERY
    due = [key.pk for key in keys if key.last_used_at is None or key.last_used_at < before]
    if due:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=before)
        ApiKey.objects.filter(stale, pk__in=due).update(last_used_at=now)


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
