"""The tracer behind `apps.common.tracing`, made of OpenTelemetry's SDK.

Nothing here can slow or stop the work it watches: spans wait in a bounded queue, the oldest go
first when it is full, and a thread sends them. Whatever happens to the collector, a process says
one line, and one more when it is over.
"""

import os
import threading
from collections.abc import Sequence
from multiprocessing.util import Finalize
from time import time_ns
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from apps.common.errors import BrokerError
from apps.common.redaction import redact_text
from apps.common.tracing import NOTHING, Attributes, Kind, Options, Span, Value

log = structlog.stdlib.get_logger(__name__)

QUEUE: Final = 2_048
BATCH: Final = 512
SEND_EVERY_S: Final = 2.0
SEND_TIMEOUT_S: Final = 5.0
EXIT_PATIENCE_S: Final = 2.0
LONGEST_TEXT: Final = 256

_KINDS: Final = {kind: trace.SpanKind[kind.name] for kind in Kind}
_propagator: Final = TraceContextTextMapPropagator()


class SdkTracer:
    """Makes its provider when a process has its first span, so after any fork."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def start(self, name: str, attributes: Attributes, *, parent: str, kind: Kind) -> Span:
        """Begin a span below `parent`, or below the present one."""
        tracer = self._tracer()
        if tracer is None:
            return NOTHING
        span = tracer.start_span(
            redact_text(name),
            context=_context_of(parent),
            kind=_KINDS[kind],
            attributes=_safe(attributes),
        )
        return RecordedSpan(span)

    def past(
        self, name: str, attributes: Attributes, *, parent: str, took_s: float, ago_s: float
    ) -> None:
        """Record a span that is over already."""
        tracer = self._tracer()
        if tracer is None:
            return
        end = time_ns() - int(ago_s * 1e9)
        tracer.start_span(
            name,
            context=_context_of(parent),
            attributes=_safe(attributes),
            start_time=end - int(max(0.0, took_s) * 1e9),
        ).end(end)

    def current(self) -> Span:
        """Return the present span."""
        return RecordedSpan(trace.get_current_span())

    def follow(self, traceparent: str) -> None:
        """Link the present span to the one named; within one trace there is nothing to link."""
        there = trace.get_current_span(_context_of(traceparent)).get_span_context()
        here = trace.get_current_span()
        if there.is_valid and there.trace_id != here.get_span_context().trace_id:
            here.add_link(there)

    def close(self) -> None:
        """Send what is left and wait for it a little; a dead collector ends nobody's patience."""
        with self._lock:
            self._closed = True
        if self._closer is not None:
            self._ending.set()
            self._closer.join(EXIT_PATIENCE_S)

    def _forget(self) -> None:
        """Begin anew: connections and threads of before a fork belong to the parent."""
        self._lock = threading.Lock()
        self._made: trace.Tracer | None = None
        self._closer: threading.Thread | None = None
        self._ending = threading.Event()
        self._closed = False

    def _tracer(self) -> trace.Tracer | None:
        if self._made is not None and not self._closed:
            return self._made
        with self._lock:
            if self._closed:
                return None
            try:
                self._made = self._made or self._make()
            except Exception:
                # Whoever is watched must not fail for it.
                log.exception("tracing_failed")
                self._closed = True
            return self._made

    def _make(self) -> trace.Tracer:
        options = self._options
        exporter = OTLPSpanExporter(
            endpoint=options.endpoint, headers=dict(options.headers), timeout=SEND_TIMEOUT_S
        )
        processor = BatchSpanProcessor(
            OnceSaidExporter(exporter, where=urlsplit(options.endpoint).netloc),
            max_queue_size=QUEUE,
            max_export_batch_size=BATCH,
            schedule_delay_millis=SEND_EVERY_S * 1000,
        )
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(options.ratio)),
            resource=Resource.create(
                {
                    "service.name": options.service,
                    "service.version": options.version,
                    "host.name": os.uname().nodename,
                    "process.pid": os.getpid(),
                }
            ),
            span_limits=SpanLimits(max_attribute_length=LONGEST_TEXT),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(processor)
        # A thread of its own, made now: a process that is ending may make none any more.
        self._closer = threading.Thread(
            target=_close_when_told, args=(self._ending, processor), name="traces", daemon=True
        )
        self._closer.start()
        # multiprocessing ends its children without atexit, but runs these.
        Finalize(None, self.close, exitpriority=10)
        return provider.get_tracer("latchkey", options.version)


class RecordedSpan(Span):
    """A span of OpenTelemetry, recorded unless its trace is not sampled."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def trace_id(self) -> str:  # type: ignore[override]
        """The trace, 32 hexadecimal digits; empty if there is none."""
        found = self._span.get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else ""

    @property
    def traceparent(self) -> str:  # type: ignore[override]
        """The span as W3C Trace Context writes it, version 00, flags 00 or 01."""
        found = self._span.get_span_context()
        if not found.is_valid:
            return ""
        span_id = trace.format_span_id(found.span_id)
        return f"00-{self.trace_id}-{span_id}-{found.trace_flags & 1:02x}"

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(error.code if isinstance(error, BrokerError) else type(error).__name__)
        context.detach(self._token)
        self._span.end()

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, redact_text(value) if isinstance(value, str) else value)

    def fail(self, code: str) -> None:
        self.set("error.type", code)
        self._span.set_status(trace.StatusCode.ERROR)

    def rename(self, name: str) -> None:
        self._span.update_name(redact_text(name))


class OnceSaidExporter(SpanExporter):
    """Says once that the collector takes nothing, and once that it does again."""

    def __init__(self, inner: SpanExporter, *, where: str) -> None:
        self._inner = inner
        self._where = where.rpartition("@")[2]
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; a batch that was not taken is gone."""
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("traces_not_taken", collector=self._where)
            self._lost += len(spans)
        elif self._lost:
            log.info("traces_taken_again", collector=self._where, lost_spans=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """End it, and the wait between two tries."""
        self._inner.shutdown()


def _close_when_told(ending: threading.Event, processor: BatchSpanProcessor) -> None:
    ending.wait()
    processor.shutdown()  # type: ignore[no-untyped-call]


def _context_of(traceparent: str) -> context.Context | None:
    """Return the context to begin a span in; None, the present one, without a valid traceparent."""
    if not traceparent:
        return None
    found = _propagator.extract({"traceparent": traceparent}, context.Context())
    return found or None


def _safe(attributes: Attributes) -> dict[str, Value]:
    return {
        name: redact_text(value) if isinstance(value, str) else value
        for name, value in attributes.items()
    }
