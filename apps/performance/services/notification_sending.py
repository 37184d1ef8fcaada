"""Carries one notice to one receiver, within a bound of time, and says what became of it."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import structlog
from django.core.mail import EmailMessage

from apps.common import detached
from apps.common.crypto import CannotOpen
from apps.common.redaction import guard, redact_text
from apps.common.texts import storable
from apps.performance.models.alerts import ChannelKind, NotificationChannel
from apps.performance.services import notification_formats as formats
from apps.performance.services.notification_formats import Notice, Request
from apps.tokens.connectors.http import shared_ssl_context
from apps.tokens.connectors.verdicts import retry_after_s

log = structlog.stdlib.get_logger(__name__)

# All of it: name, connection, sending and reading. The senders' lease is longer.
PATIENCE_S: Final = 10.0
# A mail takes several exchanges, of EMAIL_TIMEOUT at most each; one left too early comes twice.
MAIL_PATIENCE_S: Final = 30.0
ANSWER_BYTES: Final = 16 * 1024
SHORTEST_PATH: Final = 8
SHORTEST_KEY: Final = 16  # a Slack webhook's has 24, the robots' have 32 and more
MOST_WORDS: Final = 200
LONGEST_WAIT_S: Final = 3_600.0
WORTH_REPEATING: Final = frozenset({408, 425, 429})


class NotSent(Exception):
    """The receiver did not take it. The message holds no secret.

    `for_good` says that the same request cannot succeed later; `wait_s` is what was asked for.
    """

    def __init__(self, message: str, *, for_good: bool, wait_s: float = 0.0) -> None:
        self.for_good, self.wait_s = for_good, wait_s
        super().__init__(storable(redact_text(message))[:300])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, as far as it is looked at."""

    status: int
    retry_after: str
    body: bytes


def send(channel: NotificationChannel, notice: Notice) -> None:
    """Send now. Raises NotSent, whatever went wrong."""
    try:
        _send(channel, notice)
    except NotSent:
        raise
    except Exception as error:
        log.exception("notice_not_sendable", channel=channel.name)
        # What cannot be written now cannot be written later.
        for_good = isinstance(error, ValueError | httpx.InvalidURL)
        raise NotSent(type(error).__name__, for_good=for_good) from None


def _send(channel: NotificationChannel, notice: Notice) -> None:
    if channel.kind == ChannelKind.LOG:
        log.warning(
            "alert_notice", channel=channel.name, title=notice.title, notice=dict(notice.data)
        )
    elif channel.kind == ChannelKind.MAIL:
        _mail(channel, notice)
    else:
        _post(channel, notice)


def _mail(channel: NotificationChannel, notice: Notice) -> None:
    if not channel.recipients:
        raise NotSent("the channel has no recipients", for_good=True)
    text = "\n".join(f"{name}: {value}" for name, value in notice.lines)
    headers = {"Message-ID": f"<{notice.id}@latchkey>", "Auto-Submitted": "auto-generated"}
    message = EmailMessage(notice.title, text, to=channel.recipients, headers=headers)
    try:
        detached.begin(message.send).result(MAIL_PATIENCE_S)
    except TimeoutError:
        raise NotSent("mail: not taken in time", for_good=False) from None
    except OSError as error:  # smtplib's errors are of this kind too
        raise NotSent(f"mail: {type(error).__name__}", for_good=False) from None


def _post(channel: NotificationChannel, notice: Notice) -> None:
    try:
        secrets: Mapping[str, Any] = channel.secrets or {}
    except CannotOpen as error:
        # A key can be given back; then nothing is lost.
        words = "its address and secret cannot be opened; enter them again, or give the key back: "
        raise NotSent(f"{words}{error.message}", for_good=False) from None
    url, secret = str(secrets.get("url", "")), str(secrets.get("secret", ""))
    if not url:
        raise NotSent("the channel has no address", for_good=True)
    # Whatever goes wrong in there and is logged by anybody, the address and the key are not.
    with guard([url, secret, *_keys_of(url)]):
        request = formats.FORMATS[channel.kind](notice, url, secret)
        # Made before the clock runs: reading the certificates takes seconds on a busy machine.
        tls = shared_ssl_context()
        try:
            answer = detached.run(_exchange(channel.kind, request, tls))
        except TimeoutError:
            raise NotSent(f"no answer within {PATIENCE_S:g} s", for_good=False) from None
        except (httpx.HTTPError, OSError) as error:
            raise NotSent(type(error).__name__, for_good=False) from None
        _check(channel.kind, answer)


def _keys_of(url: str) -> list[str]:
    """Return what follows the host, where a robot's key is, and each part that may be the key.

    A receiver may repeat the key alone in its answer.
    """
    path = url.partition("://")[2].partition("/")[2]
    keys = [part for part in re.split("[/?&=]", path) if len(part) >= SHORTEST_KEY]
    return [path, *keys] if len(path) >= SHORTEST_PATH else []


async def _exchange(kind: str, request: Request, tls: ssl.SSLContext) -> Answer:
    """Post without following redirects: they would lead where nobody has allowed."""
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx.AsyncClient(follow_redirects=False, timeout=PATIENCE_S, verify=tls) as client,
        client.stream(
            "POST", request.url, content=request.body, headers=dict(request.headers)
        ) as answer,
    ):
        # Where the status says all, a body that never ends must not make a success a failure.
        says_more = answer.is_success and kind not in formats.BY_STATUS
        body = await _beginning(answer) if says_more else b""
        retry_after = answer.headers.get("retry-after", "")
        return Answer(status=answer.status_code, retry_after=retry_after, body=body)


async def _beginning(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES:
            break
    return bytes(body)


def _check(kind: str, answer: Answer) -> None:
    status = answer.status
    if not 200 <= status < 300:
        repeat = status >= 500 or status in WORTH_REPEATING
        wait_s = min(retry_after_s(answer.retry_after) or 0.0, LONGEST_WAIT_S)
        raise NotSent(f"HTTP {status}", for_good=not repeat, wait_s=wait_s)
    refused = formats.refusal(kind, answer.body)
    if refused is not None:
        code, words = refused
        for_good = code not in formats.BUSY and code != 0
        # Cut afterwards: nothing would know half of a key.
        raise NotSent(f"refused: {code} {redact_text(words)[:MOST_WORDS]}", for_good=for_good)
