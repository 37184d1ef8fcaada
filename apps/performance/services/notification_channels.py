"""Channels as people set them: checked before they are saved, their secrets never shown again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.common.errors import ValidationFailed
from apps.common.fields import readable
from apps.performance.models import NotificationChannel
from apps.performance.models.alerts import ChannelKind

WITHOUT_ADDRESS: Final = frozenset({ChannelKind.LOG, ChannelKind.MAIL})
LONGEST_URL: Final = 2_000
LONGEST_HOST: Final = 253  # RFC 1035, 2.3.4, without the length bytes at both ends


def save(channel: NotificationChannel, *, url: str = "", secret: str | None = None) -> None:
    """Save a channel. An empty `url` and a `secret` of None keep what is there.

    A new host needs its secret again: what is signed for one receiver is not shown to another.
    Raises ValidationFailed naming the field.
    """
    address = address_of(channel, url)
    check(kind=channel.kind, url=address, recipients=channel.recipients)
    if channel.kind != ChannelKind.MAIL:
        channel.recipients = []
    if channel.kind in WITHOUT_ADDRESS:
        channel.secrets, channel.host = None, ""
    else:
        host = urlsplit(address).hostname or ""
        kept = str(_before(channel).get("secret", "")) if host == channel.host else ""
        channel.host = host
        channel.secrets = {"url": address, "secret": kept if secret is None else secret}
    channel.save()


def check(*, kind: str, url: str, recipients: Any) -> None:
    """Raise ValidationFailed if such a channel could never deliver; the address is not repeated."""
    if kind == ChannelKind.MAIL:
        _check_recipients(recipients)
    elif kind not in WITHOUT_ADDRESS and (problem := url_problem(url)):
        raise _wrong("url", problem)


def address_of(channel: NotificationChannel, url: str) -> str:
    """Return the new address, or the one the channel has."""
    return url or str(_before(channel).get("url", ""))


def is_signed(channel: NotificationChannel) -> bool:
    """Say whether what goes there is signed with a secret."""
    return bool((readable(channel, "secrets") or {}).get("secret"))


def is_lost(channel: NotificationChannel) -> bool:
    """Say whether nobody can open its address and secret any more: both must be entered again."""
    return channel.kind not in WITHOUT_ADDRESS and readable(channel, "secrets") is None


def url_problem(url: str) -> str:
    """Return why nothing can be sent to this address, or nothing; never repeats the address."""
    if not url:
        return "An address is needed."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "This is not an address."
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "Must begin with https:// or http:// and name a host."
    if parts.username or parts.password or parts.fragment:
        return "Must not hold a user, a password or a fragment."
    if len(url) > LONGEST_URL or any(c.isspace() or ord(c) < 32 for c in url):
        return "Must not hold spaces, and at most 2,000 characters."
    return "" if _has_a_real_host(url) else "Its host cannot be the name of one."


def _has_a_real_host(url: str) -> bool:
    """Say whether whoever sends can read the host (punycode) and ask a name server for it."""
    try:
        parts = httpx.URL(url)
        name = parts.host and parts.raw_host.decode("ascii").encode("idna")
    except (ValueError, httpx.InvalidURL):  # IDNAError is a ValueError
        return False
    return 0 < len(name) <= LONGEST_HOST


def _before(channel: NotificationChannel) -> Mapping[str, Any]:
    return {} if channel._state.adding else (readable(channel, "secrets") or {})


def _check_recipients(found: Any) -> None:
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise _wrong("recipients", "Must be a list of mail addresses, at least one.")
    for address in found:
        try:
            validate_email(address)
        except (ValidationError, TypeError):
            raise _wrong("recipients", "One of them is not a mail address.") from None


def _wrong(field: str, reason: str) -> ValidationFailed:
    return ValidationFailed(f"{field}: {reason}", details={"errors": {field: [reason]}})
