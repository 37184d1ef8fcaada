"""Django, which is synchronous, inside the ASGI server: a thread a request, one hop there and back.

a2wsgi, which was here before, hops three times more for each answer, and every hop waits for the
interpreter: under load that was half of what a list cost.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager, suppress
from contextvars import copy_context
from io import BytesIO
from typing import Any, Final

from django.conf import settings

from apps.common.edge import Message, Receive, Scope, Send

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# So many requests compute at a time in a process, reads and writes apart. More would not be done
# sooner: they share one interpreter, and the event loop would have to wait for each of them.
TURNS: Final = 2
# Who has waited so long goes in any case: those before may be waiting for somebody themselves.
PATIENCE_S: Final = 0.25
LOOK_EVERY_S: Final = 1.0


class Bridge:
    """An ASGI application for HTTP around a WSGI one."""

    def __init__(self, application: Application, *, threads: int) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="django")
        self._turns = {read: threading.Semaphore(TURNS) for read in (True, False)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a body that is too long is read only as far as that shows."""
        body = await _body(receive, at_most=settings.LATCHKEY_MAX_BODY_BYTES + 1)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        stream = _Stream(loop, receive, send)
        run = copy_context().run
        try:
            messages = await loop.run_in_executor(
                self._pool, run, self._answer, environ_of(scope, body), stream
            )
        except asyncio.CancelledError:
            stream.gone.set()
            raise
        for message in messages:
            await send(message)

    def _answer(self, environ: dict[str, Any], stream: "_Stream") -> list[Message]:
        """Return the messages that are left to send. In a thread."""
        head: Message = {"type": "http.response.start"}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            head["status"] = int(status[:3])
            head["headers"] = [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ]

        with self._turn(read=environ["REQUEST_METHOD"] in READS):
            answer = self._application(environ, start_response)
            if not getattr(answer, "streaming", False):
                with _closing(answer):
                    return [head, {"type": "http.response.body", "body": b"".join(answer)}]
        with _closing(answer):
            return stream.send_all(head, answer)

    @contextmanager
    def _turn(self, *, read: bool) -> Iterator[None]:
        turns = self._turns[read]
        ours = turns.acquire(timeout=PATIENCE_S)
        try:
            yield
        finally:
            if ours:
                turns.release()


class _Stream:
    """Sends an answer piece by piece from a thread, as fast as the caller takes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive, send: Send) -> None:
        self._loop, self._receive, self._send = loop, receive, send
        self.gone = threading.Event()

    def send_all(self, head: Message, pieces: Iterable[bytes]) -> list[Message]:
        """Send everything until the caller leaves; return what ends the answer."""
        watching = asyncio.run_coroutine_threadsafe(self._watch(), self._loop)
        try:
            self._push(head)
            for piece in pieces:
                if self.gone.is_set():
                    break
                self._push({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            watching.cancel()
        return [{"type": "http.response.body", "body": b""}]

    def _push(self, message: Message) -> None:
        sending = asyncio.run_coroutine_threadsafe(self._sent(message), self._loop)
        done = False
        while not (done or self.gone.is_set()):
            with suppress(NotYet):
                sending.result(LOOK_EVERY_S)
                done = True

    async def _sent(self, message: Message) -> None:
        await self._send(message)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


async def _body(receive: Receive, *, at_most: int) -> bytes | None:
    """Return the request's body, or its beginning; None if the caller has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) >= at_most or not message.get("more_body", False):
            return bytes(body)


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return what PEP 3333 asks for.

    A header with an underscore is left out: it would pass for the one with a hyphen that a proxy
    in front of us has checked.
    """
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client := scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name:
            continue
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if kind := environ.pop("HTTP_CONTENT_TYPE", ""):
        environ["CONTENT_TYPE"] = kind
    # What was declared counts if it is more than was read: it is refused for its length.
    environ["CONTENT_LENGTH"] = environ.pop("HTTP_CONTENT_LENGTH", str(len(body)))
    return environ


@contextmanager
def _closing(answer: Any) -> Iterator[None]:
    try:
        yield
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
