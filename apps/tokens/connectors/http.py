"""The only way out: an HTTP client that sends nothing a site or a lease does not allow.

The guard sits in the transport, because httpx sends every hop of a redirect through it.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, Final
from weakref import WeakSet

import certifi
import httpx

from apps.common import tracing
from apps.tokens.connectors.hosts import is_allowed
from apps.tokens.contracts import SiteConfig
from apps.tokens.errors import (
    HostNotAllowed,
    LoginFailure,
    LoginTimedOut,
    NetworkFailure,
    RecipeError,
    UnexpectedPage,
)

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
CONNECTIONS_PER_LOGIN: Final = 10
# gzip grows a slice at most about a thousand times: a bomb is noticed after 4 MB, not after 64.
SLICE_BYTES: Final = 4 * 1024
# What would replace the transport, and with it the guard.
_REFUSED: Final = frozenset({"app", "cert", "mounts", "proxies", "proxy", "trust_env"})

# What httpcore calls the moments in which bytes of a request leave, and in which there is a line.
_LEAVES: Final = (".send_request_headers.started", ".send_request_body.started")
_CONNECTED: Final = "connect_tcp.complete"

BeforeSend = Callable[[], Awaitable[None]]
SecondsLeft = Callable[[], float]


@asynccontextmanager
async def guarded_client(
    site: SiteConfig,
    *,
    before_send: BeforeSend,
    deadline: SecondsLeft | None = None,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    **options: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that talks only to `site.allowed_hosts`, redirects included.

    `before_send` is awaited before every request that leaves, after the host check, and again
    when there is a connection, right before its headers and its body are written. `deadline`
    returns the seconds left for the whole login; a request never outlives it, nor its own
    time-out, which bounds the whole exchange with the answer's body. Answers are read at once, at
    most `max_answer_bytes` after decompression. `options` go to `httpx.AsyncClient`; `transport`
    is wrapped, `verify` may be an `ssl.SSLContext`; what would go around the guard is refused.

    Requests raise HostNotAllowed, NetworkFailure, LoginTimedOut, UnexpectedPage, and whatever
    `before_send` raises. Messages name method and host, never path, query or body.
    """
    if refused := _REFUSED & options.keys():
        raise RecipeError(f"A connector cannot set {', '.join(sorted(refused))} on its client.")
    inner = options.pop("transport", None) or _transport(
        site, options.pop("verify", None), options.pop("limits", None)
    )
    transport = _GuardedTransport(
        inner, site=site, before_send=before_send, deadline=deadline, max_bytes=max_answer_bytes
    )
    headers = httpx.Headers({"User-Agent": site.user_agent})
    headers.update(options.pop("headers", None))
    options.setdefault("timeout", site.request_timeout_s)
    async with _Client(transport=transport, headers=headers, trust_env=False, **options) as client:
        yield client


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return this process's one TLS context: parsing the authorities for each login costs memory.

    Trusts certifi's list and what the machine trusts, so that a company's own authority works.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


class _Client(httpx.AsyncClient):
    """Maps what httpx raises above the transport: too many redirects, an unreadable Location."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            return await super().send(request, **options)
        except httpx.TooManyRedirects as error:
            raise UnexpectedPage(f"{_where(request)} redirects without end.") from error
        except httpx.HTTPError as error:
            raise UnexpectedPage(f"{_where(request)} redirects to nowhere.") from error


def hang_up() -> None:
    """Shut all connections of this process to sites, whatever is being done with them.

    Waits for nothing, so a signal handler may call it: what was about to be written is not sent.
    """
    for transport in list(_talking):
        transport.hang_up()


class _GuardedTransport(httpx.AsyncBaseTransport):
    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        site: SiteConfig,
        before_send: BeforeSend,
        deadline: SecondsLeft | None,
        max_bytes: int,
    ) -> None:
        self._inner = inner
        self._site = site
        self._before_send = before_send
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._sockets: list[Any] = []
        _talking.add(self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not is_allowed(request.url, self._site.allowed_hosts):
            raise HostNotAllowed(f"{_where(request)}: this host is not allowed for the site.")
        await self._before_send()
        limit_s = self._limit_s(request)
        if limit_s is not None and limit_s <= 0:
            raise LoginTimedOut("The login's time was over before the request.")
        request.extensions = {**request.extensions, "trace": self._on_event}
        with _span_of(request) as span:
            try:
                async with asyncio.timeout(limit_s):
                    answer = await self._exchange(request)
            except (TimeoutError, httpx.HTTPError) as error:
                raise _failure(request, error) from _speakable(error)
            span.set("http.response.status_code", answer.status_code)
            return answer

    async def _on_event(self, event: str, facts: dict[str, Any]) -> None:
        """Look again when there is a connection: this process may have been stopped meanwhile."""
        if event.endswith(_LEAVES):
            await self._before_send()
        elif event.endswith(_CONNECTED):
            self._sockets.append(facts["return_value"].get_extra_info("socket"))

    def hang_up(self) -> None:
        """Shut the connections; the exchanges end as failures of the network."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        try:
            body = await self._read(request, answer)
        finally:
            await answer.aclose()
        # The body is decoded by now; httpx must not decode it again.
        headers = [
            pair
            for pair in answer.headers.raw
            if pair[0].lower() not in (b"content-encoding", b"content-length", b"transfer-encoding")
        ]
        return httpx.Response(
            answer.status_code, headers=headers, content=body, extensions=answer.extensions
        )

    async def _read(self, request: httpx.Request, answer: httpx.Response) -> bytes:
        decoding = httpx.Response(
            answer.status_code, headers=answer.headers, stream=_Slices(answer), request=request
        )
        body = bytearray()
        async for piece in decoding.aiter_bytes():
            body += piece
            if len(body) > self._max_bytes:
                raise UnexpectedPage(
                    f"{_where(request)}: the answer is larger than {self._max_bytes} bytes."
                )
        return bytes(body)

    def _limit_s(self, request: httpx.Request) -> float | None:
        phases = request.extensions.get("timeout", {}).values()
        limits = [max(phases)] if phases and None not in phases else []
        if self._deadline is not None:
            limits.append(self._deadline())
        return min(limits, default=None)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Slices(httpx.AsyncByteStream):
    """The raw body of an answer in small slices, so that decompression grows in small steps."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._answer.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("The transport gave a synchronous stream.")
        async for chunk in stream:
            for start in range(0, len(chunk), SLICE_BYTES):
                yield chunk[start : start + SLICE_BYTES]


def _transport(
    site: SiteConfig, verify: Any, limits: httpx.Limits | None
) -> httpx.AsyncHTTPTransport:
    if verify is not None and not isinstance(verify, ssl.SSLContext):
        raise RecipeError("`verify` must be an ssl.SSLContext; certificates are always checked.")
    context = verify or shared_ssl_context()
    try:
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=limits or httpx.Limits(max_connections=CONNECTIONS_PER_LOGIN),
            proxy=_proxy(site.proxy, context),
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        # The cause would repeat the proxy's address, and with it its password.
        raise RecipeError("The site's proxy must be an http, https or socks5 URL.") from None


def _proxy(address: str, context: ssl.SSLContext) -> httpx.Proxy | None:
    if not address:
        return None
    secure = address.lower().startswith("https:")
    return httpx.Proxy(address, ssl_context=context if secure else None)


def _span_of(request: httpx.Request) -> tracing.Span:
    """Begin the span of one exchange: method and host. The site gets no trace header of ours."""
    method, host, port = request.method, request.url.host, request.url.port
    facts: dict[str, tracing.Value] = {"http.request.method": method, "server.address": host}
    if port:
        facts["server.port"] = port
    return tracing.span(f"{method} {host}", facts, kind=tracing.Kind.CLIENT)


def _failure(request: httpx.Request, error: Exception) -> LoginFailure:
    where = _where(request)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return LoginTimedOut(f"{where} was not answered in time.")
    if isinstance(error, httpx.LocalProtocolError):
        return RecipeError(f"{where}: the request cannot be sent; a header is malformed.")
    if isinstance(error, httpx.DecodingError):
        return UnexpectedPage(f"{where}: the answer cannot be decompressed.")
    return NetworkFailure(f"{where} failed: {type(error).__name__}.")


def _speakable(error: Exception) -> Exception | None:
    # h11 repeats the offending header, which may be the token, in its message.
    return None if isinstance(error, httpx.LocalProtocolError) else error


def _where(request: httpx.Request) -> str:
    port = f":{request.url.port}" if request.url.port else ""
    return f"{request.method} {request.url.scheme}://{request.url.host}{port}"


_talking: Final[WeakSet[_GuardedTransport]] = WeakSet()
