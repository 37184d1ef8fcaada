"""One HTTP exchange over raw ASGI: what the flows need and no more."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"
HTML: Final = b"text/html; charset=utf-8"
MAX_BODY_BYTES: Final = 1024 * 1024
TRANSPORT: Final = "faultlab.transport"
"""Where the server puts the connection into the scope, so that a site can cut it."""

# Closing with this sends RST at once instead of FIN.
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class ClientGone(Exception):
    """The client closed its connection before the answer was out."""


class BadRequest(Exception):
    """The request cannot be read; the message says why."""


class Exchange:
    """A request and the way to answer it."""

    __slots__ = ("_receive", "_send", "method", "path", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        """Return a header by its lower-case name, '' where it is absent."""
        for key, value in self.scope["headers"]:
            if key == name:
                text: str = value.decode("latin-1")
                return text
        return ""

    def cookie(self, name: str) -> str:
        raw = self.header(b"cookie")
        if not raw:
            return ""
        try:
            morsel = SimpleCookie(raw).get(name)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    async def body(self) -> bytes:
        """Return the whole body. Raises ClientGone, BadRequest over MAX_BODY_BYTES."""
        whole = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            whole += message.get("body", b"")
            if len(whole) > MAX_BODY_BYTES:
                raise BadRequest(f"A body may have at most {MAX_BODY_BYTES} bytes.")
            if not message.get("more_body"):
                return bytes(whole)

    async def wait(self, seconds: float | None) -> None:
        """Wait, for ever if None, and notice at once when the client goes. Raises ClientGone."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return
        raise ClientGone

    async def start(self, status: int, content_type: bytes, length: int, extra: Headers) -> None:
        """Send status and headers. Raises ClientGone."""
        if self.scope[TRANSPORT].is_closing():
            raise ClientGone
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % length),
            (b"cache-control", b"no-store"),
            *extra,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: Headers = ()
    ) -> None:
        """Send a whole answer. Raises ClientGone."""
        await self.start(status, content_type, len(body), extra)
        await self.write(body)

    async def json(self, status: int, value: Any, extra: Headers = ()) -> None:
        await self.answer(status, orjson.dumps(value), JSON, extra)

    def drop(self) -> None:
        """Cut the connection with a reset."""
        transport = self.scope[TRANSPORT]
        raw = transport.get_extra_info("socket")
        if raw is not None and not transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()


def read_json(body: bytes) -> Any:
    """Return the parsed body. Raises BadRequest."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
