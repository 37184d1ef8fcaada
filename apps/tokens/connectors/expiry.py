"""When a token expires, as the site says it."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from typing import Any, Final
from zoneinfo import ZoneInfo

from apps.tokens.connectors import cookies
from apps.tokens.connectors.ciphers import from_base64
from apps.tokens.connectors.scope import Scope
from apps.tokens.errors import UnexpectedPage

LONGEST: Final = timedelta(days=3650)
# Seconds since 1970 reach this in the year 5138, milliseconds reached it in 1973.
FIRST_MILLISECONDS: Final = 1e11


def expires_at(
    spec: Mapping[str, Any], *, scope: Scope, jar: CookieJar, sent_at: float
) -> datetime | None:
    """Return the time in UTC, at most ten years after `sent_at` (seconds since the epoch).

    None where the recipe or the site says nothing: the site's default TTL decides then. Raises
    UnexpectedPage if what the site says cannot be read.
    """
    scope.step = "expiry"
    start = datetime.fromtimestamp(sent_at, tz=UTC)
    if "ttl_s" in spec:
        return _after(start, spec["ttl_s"])
    if "cookie" in spec:
        return _bounded(_of_cookie(spec["cookie"], jar), start)
    for kind, read in _READERS.items():
        if kind in spec:
            text = scope.evaluate(spec[kind]).strip()
            return _bounded(_read(read, text, spec, start), start) if text else None
    return None


def _read(
    read: Callable[[str, Mapping[str, Any], datetime], datetime | None],
    text: str,
    spec: Mapping[str, Any],
    start: datetime,
) -> datetime | None:
    try:
        return read(text, spec, start)
    except (ValueError, OverflowError, OSError, TypeError, AttributeError):
        # The cause may repeat the token.
        raise UnexpectedPage("The site's expiry cannot be read.", step="expiry") from None


def _seconds(text: str, _spec: Mapping[str, Any], start: datetime) -> datetime:
    return _after(start, float(text))


def _iso(text: str, spec: Mapping[str, Any], _start: datetime) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(spec.get("timezone", "UTC")))
    return found.astimezone(UTC)


def _epoch(text: str, _spec: Mapping[str, Any], _start: datetime) -> datetime:
    value = float(text)
    return datetime.fromtimestamp(value / 1000 if value >= FIRST_MILLISECONDS else value, tz=UTC)


def _jwt(text: str, _spec: Mapping[str, Any], _start: datetime) -> datetime | None:
    """Read `exp` (RFC 7519, 4.1.4) without verifying: the token is used, not trusted."""
    _header, payload, *_signature = text.split(".")
    claims = json.loads(from_base64(payload))
    exp = claims.get("exp")
    return None if exp is None else datetime.fromtimestamp(float(exp), tz=UTC)


_READERS: Final = {"seconds": _seconds, "iso": _iso, "epoch": _epoch, "jwt": _jwt}


def _of_cookie(name: str, jar: CookieJar) -> datetime | None:
    found = [cookie for cookie in cookies.from_jar(jar) if cookie.name == name]
    if not found:
        raise UnexpectedPage(f"The site did not set the cookie {name}.", step="expiry")
    return found[0].expires


def _after(start: datetime, seconds: float) -> datetime:
    if math.isnan(seconds):
        raise ValueError("not a number")
    return start + timedelta(seconds=min(seconds, LONGEST.total_seconds()))


def _bounded(found: datetime | None, start: datetime) -> datetime | None:
    return None if found is None else min(found, start + LONGEST)
