"""One port: what waits or must be fast goes to the edge, everything else to Django.

Django stays synchronous and runs in threads (a2wsgi): its own ASGI handler starts a thread a
request and is several times slower. See docs/architecture.md for the figures.
"""

import asyncio
import os
from typing import Any, Final, cast

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

django = get_wsgi_application()

from django.conf import settings  # noqa: E402 - the settings are ready only now

from apps.common import edge, measure, tracing  # noqa: E402
from apps.tokens import edge as tokens  # noqa: E402

ACQUIRE: Final = "/api/v1/automation/tokens/acquire"
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
        await _threads({**scope, "headers": headers}, receive, send)


async def _lifespan(receive: edge.Receive, send: edge.Send) -> None:
    while True:
        message = await receive()
        ends = message["type"] == "lifespan.shutdown"
        if ends:
            # Here, because a server that ends by its signal runs nothing at exit.
            await asyncio.to_thread(measure.close)
            await asyncio.to_thread(tracing.close)
        else:
            measure.begin()
        await send({"type": f"{message['type']}.complete"})
        if ends:
            return
