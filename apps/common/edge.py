"""Small pieces for raw ASGI handlers: reading a bounded body, answering JSON and problems."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

import orjson
from django.conf import settings

from apps.common import events, tracing
from apps.common.parsers import refuse_large
from apps.common.problems import language_of, problem_of
from apps.common.request_context import bind

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Answer = tuple[int, Any]

JSON: Final = "application/json"
access_log = logging.getLogger("latchkey.access")


class ClientGone(Exception):
    """The caller has closed the connection; nobody reads an answer."""


async def serve(
    handle: Callable[[Scope, Receive], Awaitable[Answer]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Run one handler under a request id and a span; send what it returns or the problem raised."""
    begun = time.perf_counter()
    method, path = scope["method"], scope["path"]
    with (
        bind(header(scope, "x-request-id")) as request_id,
        tracing.serving(method, path, header(scope, "traceparent")) as span,
    ):
        try:
            status, content = await handle(scope, receive)
            headers = {"Content-Type": JSON, "Cache-Control": "no-store"}
        except ClientGone:
            span.set("error.type", "client_gone")
            return
        except Exception as error:  # noqa: BLE001 - problem_of logs what nobody foresaw
            language = language_of(header(scope, "accept-language") or "")
            status, headers, content = problem_of(error, language=language, instance=path)
        if span.traceparent:
            headers |= {"traceparent": span.traceparent}
        await respond(send, status, content, headers | {"X-Request-ID": request_id})
        took_s = time.perf_counter() - begun
        # The paths of the edge are its routes: none of them has a part that varies.
        tracing.answered(span, method=method, route=path, status=status)
        events.request_answered(method=method, route=path, status=status, took_s=took_s)
        if access_log.isEnabledFor(logging.INFO):
            # First all answers of this turn of the loop, then their lines.
            line = (method, path, status, took_s * 1000)
            asyncio.get_running_loop().call_soon(access_log.info, "%s %s %d %.1fms", *line)


async def respond(send: Send, status: int, content: Any, headers: Mapping[str, str]) -> None:
    """Send a whole JSON answer."""
    body = orjson.dumps(content, default=str)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the request's body. Raises BodyTooLarge as soon as it is, and ClientGone."""
    declared = header(scope, "content-length")
    if declared and declared.isdecimal():
        refuse_large(int(declared))
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        refuse_large(len(body))
        if not message.get("more_body", False):
            return bytes(body)


def header(scope: Scope, name: str) -> str | None:
    """Return a request header; None if it is absent or no text."""
    wanted = name.lower().encode()
    for key, value in scope["headers"]:
        if key == wanted:
            try:
                return str(value.decode("ascii"))
            except UnicodeDecodeError:
                return None
    return None


def remote_address(scope: Scope) -> str:
    """Return the caller's address as the server sees it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def alive(scope: Scope, receive: Receive) -> Answer:
    """Liveness: this process answers. It asks nothing of any other part."""
    return 200, {"status": "alive", "version": settings.SPECTACULAR_SETTINGS["VERSION"]}
