"""A collector on loopback: takes OTLP/HTTP as the specification has it, and can misbehave."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from apps.common import tracing, tracing_sdk

PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it arrived; ids in hexadecimal, an empty `parent` for a root."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    begin: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    links: list[str]
    resource: dict[str, Any]


@dataclass(slots=True)
class Collector:
    """What has arrived. `status` is the answer to come; with `open` cleared nothing is answered."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def spans(self) -> list[Seen]:
        """Return all spans that were taken so far."""
        return [
            span
            for body in list(self.bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in (_seen(one, plain(resource.resource.attributes)) for one in scope.spans)
        ]

    def named(self, name: str) -> Seen:
        """Wait for the first span of this name, and return it."""
        return self.until(
            lambda: next((span for span in self.spans() if span.name == name), None), name
        )

    def until(self, check: Any, what: str = "it") -> Any:
        """Wait for what other threads and processes send; return the first true value."""
        end = time.monotonic() + PATIENCE_S
        while not (found := check()):
            seen = sorted({span.name for span in self.spans()})
            assert time.monotonic() < end, f"{what} did not arrive; there are {seen}"
            time.sleep(0.02)
        return found


def plain(pairs: Any) -> dict[str, Any]:
    """Return OTLP's attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def _seen(span: Any, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes=plain(span.attributes),
        links=[link.trace_id.hex() for link in span.links],
        resource=resource,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port of loopback."""
    here = Collector()
    here.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.open.wait(PATIENCE_S)
            taken = self.path == "/v1/traces" and here.status == 200
            if taken:
                here.headers.append(dict(self.headers))
                here.bodies.append(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(here.status if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.open.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as here:
        yield here


@pytest.fixture(scope="module")
def collector_of_the_module() -> Iterator[Collector]:
    with collecting() as here:
        yield here


@pytest.fixture
def trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tracing_sdk.SdkTracer]]:
    """Turns tracing on; call it, with more options perhaps. What is recorded goes to `collector`.

    Closing what it returns sends everything.
    """
    made: list[tracing_sdk.SdkTracer] = []

    def turn_on(**options: Any) -> tracing_sdk.SdkTracer:
        chosen = tracing.Options(endpoint=f"{collector.url}/v1/traces", **options)
        made.append(tracing_sdk.SdkTracer(chosen))
        monkeypatch.setattr(tracing, "_tracer", made[-1])
        return made[-1]

    monkeypatch.setattr(tracing_sdk, "SEND_EVERY_S", 0.02)
    # However busy the machine is, what was said arrives.
    monkeypatch.setattr(tracing_sdk, "SEND_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(tracing_sdk, "EXIT_PATIENCE_S", PATIENCE_S)
    yield turn_on
    collector.open.set()
    for tracer in made:
        tracer.close()
