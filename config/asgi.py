"""One port: what waits or must be fast goes to the edge, everything else to Django.

Django stays synchronous and runs in threads (a2wsgi): its own ASGI handler starts a thread a
request and is several times slower. One request runs at a time, see `apps/common/turns.py`;
docs/architecture.md has the figures.
"""

import asyncio
import gc
import os
from collections import deque
from typing import Any, Final, cast

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

django = get_wsgi_application()

from django.conf import settings  # noqa: E402 - the settings are ready only now
from django.urls import get_resolver  # noqa: E402

from apps.common import edge, measure, tracing, turns  # noqa: E402
from apps.tokens import edge as tokens  # noqa: E402

ACQUIRE: Final = "/api/v1/automation/tokens/acquire"
READING: Final = {"GET", "HEAD", "OPTIONS"}
# Any: a2wsgi types every message by itself, where ASGI servers pass plain mappings.
_threads: Any = WSGIMiddleware(cast("Any", django), workers=settings.LATCHKEY_WSGI_THREADS)


async def application(scope: edge.Scope, receive: edge.Receive, send: edge.Send) -> None:
    """Route one ASGI connection."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1003})
    elif scope["path"] == "/livez":
        await edge.serve(edge.alive, scope, receive, send)
    elif scope["path"] == ACQUIRE and scope["method"] == "POST" and tokens.key_of(scope):
        await edge.serve(tokens.acquire, scope, receive, send)
    else:
        # A header with an underscore would pass for the one with a hyphen that a proxy has checked.
        headers = [header for header in scope["headers"] if b"_" not in header[0]]
        await _in_turn({**scope, "headers": headers}, await _arrived(receive), send)


async def _in_turn(scope: edge.Scope, receive: edge.Receive | None, send: edge.Send) -> None:
    if receive is None:
        return
    due_s = turns.READ_S if scope["method"] in READING else turns.CHANGE_S
    async with turns.TURNS.turn(due_s):
        await _threads(scope, receive, send)


async def _arrived(receive: edge.Receive) -> edge.Receive | None:
    """Wait for the whole body, so that a slow caller has no turn yet; None if the caller leaves.

    A body over the limit is passed on at once: Django refuses it, and tells why.
    """
    messages: deque[edge.Message] = deque()
    size, complete = 0, False
    while not complete and size <= settings.LATCHKEY_MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        messages.append(message)
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)

    async def again() -> edge.Message:
        return messages.popleft() if messages else await receive()

    return again


def _settle() -> None:
    """Load what the first request would, and leave all of it out of garbage collections.

    It stays for as long as the process does; looking through it again and again took 0.13 s at a
    time, in which nobody was answered.
    """
    assert get_resolver().url_patterns  # noqa: S101 - reading them loads them
    gc.collect()
    gc.freeze()


async def _lifespan(receive: edge.Receive, send: edge.Send) -> None:
    while True:
        message = await receive()
        ends = message["type"] == "lifespan.shutdown"
        if ends:
            # Here, because a server that ends by its signal runs nothing at exit.
            await asyncio.to_thread(measure.close)
            await asyncio.to_thread(tracing.close)
        else:
            _settle()
            measure.begin()
        await send({"type": f"{message['type']}.complete"})
        if ends:
            return
