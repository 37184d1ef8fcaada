"""A good answer of the token endpoint as a LoginGrant (RFC 6749 5.1)."""

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apps.tokens.contracts import LoginGrant, TokenMaterial
from apps.tokens.errors import UnexpectedPage

LONGEST_LIFE_S: Final = 10 * 365 * 86_400.0
# Keycloak and a few others say how long the refresh token lives; no standard does.
_REFRESH_LIFETIMES: Final = ("refresh_expires_in", "refresh_token_expires_in")


def read_grant(data: Mapping[str, Any], *, asked_at: datetime, step: str) -> LoginGrant:
    """Return the grant in a JSON object.

    Lifetimes count from `asked_at`, the moment before the request: a slow answer must not make a
    token look younger than it is. Raises UnexpectedPage without a usable access token.
    """
    token = _token(data.get("access_token"))
    if not token:
        raise UnexpectedPage("The token endpoint gave no usable access_token.", step=step)
    kind = data.get("token_type") or "bearer"
    if str(kind).lower() != "bearer":
        # RFC 6749 7.1: a token of a type one does not understand must not be used.
        raise UnexpectedPage("The token endpoint gave a token that is not a bearer.", step=step)
    refresh_lifetimes = (_after(asked_at, data.get(name)) for name in _REFRESH_LIFETIMES)
    return LoginGrant(
        material=TokenMaterial(bearer=token),
        expires_at=_after(asked_at, data.get("expires_in")) or jwt_expiry(token),
        refresh_token=_token(data.get("refresh_token")) or None,
        refresh_expires_at=next((at for at in refresh_lifetimes if at), None),
    )


def jwt_expiry(token: str) -> datetime | None:
    """Return `exp` of a JWT in UTC, unverified: only the site can say whether it is genuine."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(payload)
        seconds = float(claims["exp"])
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None


def _after(start: datetime, lifetime: Any) -> datetime | None:
    # Some servers send the number as a text; zero and less mean that they do not know.
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float | str):
        return None
    try:
        seconds = float(lifetime)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return start + timedelta(seconds=min(seconds, LONGEST_LIFE_S))


def _token(value: Any) -> str:
    # RFC 6749 appendix A.12: printable ASCII. Anything else could break out of a header.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return ""
    return value
