"""Traces: what one request caused, from the caller through the queue to each step of a login.

Off unless the settings name a collector. Then nothing of OpenTelemetry is imported, and a span
costs a fraction of a microsecond. Who is traced, and what a span may hold: docs/tracing.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

log = structlog.stdlib.get_logger(__name__)

Value = str | int | float | bool
Attributes = Mapping[str, Value]

# Asked every few seconds by machines; nobody looks for these among traces.
UNTRACED: Final = ("/livez", "/readyz", "/metrics", "/static/")


class Kind(StrEnum):
    """What a piece of work is to the others of its trace, in OpenTelemetry's words."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span:
    """A piece of work, begun and ended by `with`; this one is recorded nowhere."""

    __slots__ = ()
    trace_id = ""
    traceparent = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the span; of an error only its code or its class is kept, never its text."""

    def set(self, name: str, value: Value) -> None:
        """Note a fact. Texts pass the same redaction as logs."""

    def fail(self, code: str) -> None:
        """Say that the work failed, and with what code."""

    def rename(self, name: str) -> None:
        """Give the name that was not known at the beginning."""


class Tracer(Protocol):
    """What records spans; `apps.common.tracing_sdk` has the real one."""

    def start(self, name: str, attributes: Attributes, *, parent: str, kind: Kind) -> Span: ...
    def past(
        self, name: str, attributes: Attributes, *, parent: str, took_s: float, ago_s: float
    ) -> None: ...
    def current(self) -> Span: ...
    def follow(self, traceparent: str) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where spans go: an OTLP/HTTP address, headers for it, and how we are called there.

    `ratio` is the share of traces that is recorded, of those that no caller has decided about.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    service: str = "latchkey"
    version: str = ""
    ratio: float = 1.0


NOTHING: Final = Span()
_NONE: Final[Attributes] = {}
_tracer: Tracer | None = None


def enable(options: Options) -> None:
    """Record from now on. Each process connects to the collector when it has something to say.

    Where the packages for it are not installed, one line says so and nothing is recorded.
    """
    global _tracer  # noqa: PLW0603 - one a process, as the root logger is
    try:
        # Imported late: who does not trace does not pay for it.
        from apps.common.tracing_sdk import SdkTracer
    except ImportError as error:
        log.warning("tracing_not_installed", missing=error.name, install="requirements/tracing.txt")
        return
    _tracer = SdkTracer(options)


def span(
    name: str,
    attributes: Attributes = _NONE,
    *,
    parent: str = "",
    kind: Kind = Kind.INTERNAL,
) -> Span:
    """Return a span to be entered: below the present one, or below `parent`, a traceparent."""
    if _tracer is None:
        return NOTHING
    return _tracer.start(name, attributes, parent=parent, kind=kind)


def past(
    name: str, attributes: Attributes = _NONE, *, parent: str, took_s: float, ago_s: float = 0.0
) -> None:
    """Record what took so many seconds and ended so many seconds ago; nothing without a parent."""
    if _tracer is not None and parent:
        _tracer.past(name, attributes, parent=parent, took_s=took_s, ago_s=ago_s)


def serving(method: str, path: str, traceparent: str | None) -> Span:
    """Return the span of an HTTP request; it goes on in the caller's trace where it sent one."""
    if _tracer is None or path.startswith(UNTRACED):
        return NOTHING
    attributes = {"http.request.method": method}
    return _tracer.start(method, attributes, parent=traceparent or "", kind=Kind.SERVER)


def answered(span: Span, *, method: str, route: str, status: int) -> None:
    """Note how an HTTP request was answered; `route` is a pattern, never what was asked for."""
    if span is NOTHING:
        return
    span.rename(f"{method} {route}")
    span.set("http.route", route)
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))


def follow(traceparent: str) -> None:
    """Link the present span to another trace that does work for it."""
    if _tracer is not None and traceparent:
        _tracer.follow(traceparent)


def current_traceparent() -> str:
    """Return the present span as a W3C `traceparent`; empty where nothing is traced."""
    return "" if _tracer is None else _tracer.current().traceparent


def current_trace_id() -> str:
    """Return the id of the present trace, 32 hexadecimal digits; empty where there is none."""
    return "" if _tracer is None else _tracer.current().trace_id


def close() -> None:
    """Send what is left, for at most two seconds; what comes later is not recorded."""
    if _tracer is not None:
        _tracer.close()
