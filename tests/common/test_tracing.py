"""Traces: one for each request, nothing of them where they are off, and nobody waits for them."""

import io
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from apps.common import tracing, tracing_sdk
from apps.common.errors import NotFound
from apps.common.redaction import guard
from config import env
from config.logs import SafeStreamHandler, redacted_formatter

pytest_plugins = ["tests.otlp"]

ROOT = Path(__file__).parents[2]
CALLER = "00-" + "ab" * 16 + "-" + "cd" * 8
SERVER, CLIENT = 2, 3


def python(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# Off ------------------------------------------------------------------------------------------
def test_nothing_that_traces_is_loaded_where_tracing_is_off(tmp_path):
    done = python(
        """
        import sys

        class NotInstalled:  # the Redis client looks for it by itself
            def find_spec(self, name, path=None, target=None):
                assert not name.startswith("apps.common.tracing_sdk")
                if name.startswith("opentelemetry"):
                    raise ImportError(name)

        sys.meta_path.insert(0, NotInstalled())
        import config.asgi
        from apps.common import tracing
        from apps.tokens.services import execution, worker
        with tracing.span("x", {"a": 1}) as span:
            assert tracing.current_traceparent() == span.traceparent == ""
        tracing.close()
        print({"opentelemetry", "google.protobuf", "apps.common.tracing_sdk"} & {*sys.modules})
        """,
        DJANGO_SETTINGS_MODULE="config.settings.test",
        LATCHKEY_DATA_DIR=str(tmp_path),
    )
    assert (done.stdout.strip(), done.returncode) == ("set()", 0), done.stderr


def test_an_endpoint_without_the_packages_for_it_costs_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "apps.common.tracing_sdk", None)
    monkeypatch.setattr(tracing, "_tracer", None)
    with capture_logs() as lines:
        tracing.enable(tracing.Options(endpoint="http://127.0.0.1:1/v1/traces"))

    assert [line["event"] for line in lines] == ["tracing_not_installed"]
    assert tracing.span("x") is tracing.NOTHING


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://d/x",
            },
            "https://d/x",
        ),
    ],
)
def test_the_endpoint_is_where_the_specification_says(monkeypatch, variables, endpoint):
    monkeypatch.setattr(env, "known", set())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert env.traces_endpoint() == endpoint


def test_an_endpoint_of_another_protocol_is_refused(monkeypatch):
    monkeypatch.setattr(env, "known", set())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(ImproperlyConfigured):
        env.traces_endpoint()


# Requests -------------------------------------------------------------------------------------
def test_a_request_goes_on_in_the_trace_of_its_caller(trace, collector):
    trace(headers={"x-key": "k"}, service="ours", version="7")
    answer = Client().get(
        "/api/v1/automation/sites?q=canary", headers={"traceparent": f"{CALLER}-01"}
    )

    span = collector.named("GET /api/v1/automation/sites")
    assert (span.trace, span.parent, span.kind) == ("ab" * 16, "cd" * 8, SERVER)
    assert answer["traceparent"] == f"00-{span.trace}-{span.id}-01"
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/automation/sites",
        "http.response.status_code": 401,
    }
    assert (span.resource["service.name"], span.resource["service.version"]) == ("ours", "7")
    assert collector.headers[0]["x-key"] == "k"


@pytest.mark.parametrize("header", [None, "", "00-xyz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_request_without_a_trace_begins_one(trace, collector, header):
    trace()
    Client().get("/admin/login/", headers={"traceparent": header} if header is not None else {})

    span = collector.named("GET /admin/login/")
    assert span.parent == ""
    assert len(span.trace) == 32


def test_who_asks_for_no_trace_gets_none_and_keeps_the_id(trace, collector):
    tracer = trace()
    answer = Client().get("/admin/login/", headers={"traceparent": f"{CALLER}-00"})
    tracer.close()

    assert answer["traceparent"].startswith("00-" + "ab" * 16)
    assert answer["traceparent"].endswith("-00")
    assert collector.spans() == []


def test_no_trace_is_recorded_at_a_ratio_of_nothing(trace, collector):
    tracer = trace(ratio=0)
    Client().get("/admin/login/")
    Client().get("/admin/login/", headers={"traceparent": f"{CALLER}-01"})
    tracer.close()

    assert [span.trace for span in collector.spans()] == ["ab" * 16]


def test_health_and_metrics_are_not_traced(trace, collector):
    tracer = trace()
    for path in ("/livez", "/livez?full", "/static/x.css"):
        assert "traceparent" not in Client().get(path)
    assert tracing.serving("GET", "/metrics", None) is tracing.NOTHING
    assert tracing.serving("GET", "/readyz", None) is tracing.NOTHING
    tracer.close()

    assert collector.spans() == []


# What a span holds ----------------------------------------------------------------------------
def test_an_error_leaves_its_code_and_nothing_of_its_text(trace, collector):
    tracer = trace()
    with pytest.raises(NotFound), tracing.span("ours"):
        raise NotFound("canary-of-ours")
    with pytest.raises(ValueError, match="canary"), tracing.span("theirs"):
        raise ValueError("canary-of-theirs")
    tracer.close()

    assert {span.name: span.attributes for span in collector.spans()} == {
        "ours": {"error.type": "not_found"},
        "theirs": {"error.type": "ValueError"},
    }
    assert all(span.failed for span in collector.spans())
    assert b"canary" not in b"".join(collector.bodies)


def test_texts_of_a_span_are_redacted(trace, collector):
    tracer = trace()
    with guard(["canary-71"]), tracing.span("step canary-71", {"a": "x canary-71"}) as span:
        span.set("b", "Bearer canary-71-and-more")
        span.rename("now canary-71")
    tracer.close()

    assert b"now [redacted]" in collector.bodies[0]
    assert b"canary" not in collector.bodies[0]


def test_log_lines_carry_the_trace_next_to_the_request(trace):
    trace()
    stream = io.StringIO()
    handler = SafeStreamHandler(stream)
    handler.setFormatter(redacted_formatter("json"))
    logging.getLogger().addHandler(handler)
    try:
        Client().get("/admin/login/", headers={"traceparent": f"{CALLER}-01"})
        late = Client().get("/nowhere", headers={"traceparent": f"{CALLER}-01"})
        request = {"request": late.wsgi_request}
        logging.getLogger("django.request").error("after the answer", extra=request)
    finally:
        logging.getLogger().removeHandler(handler)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    # Django itself speaks of the missing page after the span has ended.
    assert {line["logger"] for line in lines} >= {"latchkey.access", "django.request"}
    assert {line["trace_id"] for line in lines} == {"ab" * 16}
    assert all("request_id" in line for line in lines)


# Collectors that are away, slow, or say no ----------------------------------------------------
class Moody(SpanExporter):
    """Takes what its script says."""

    def __init__(self, *results: bool) -> None:
        self.results = iter(results)

    def export(self, spans):
        return SpanExportResult.SUCCESS if next(self.results) else SpanExportResult.FAILURE


def test_a_collector_that_takes_nothing_is_mentioned_once_and_once_when_it_is_back():
    moody = Moody(True, False, False, False, True, True, False)
    exporter = tracing_sdk.OnceSaidExporter(moody, where="me:secret@c:4318")
    with capture_logs() as lines:
        for _ in range(7):
            exporter.export([None, None])

    assert [(line["event"], line.get("lost_spans")) for line in lines] == [
        ("traces_not_taken", None),
        ("traces_taken_again", 6),
        ("traces_not_taken", None),
    ]
    assert {line["collector"] for line in lines} == {"c:4318"}


def test_a_collector_that_refuses_costs_one_line(trace, collector, caplog):
    tracer, collector.status = trace(), 400
    with capture_logs() as lines:
        for _ in range(3 * tracing_sdk.BATCH):
            with tracing.span("x"):
                pass
        tracer.close()

    assert [line["event"] for line in lines] == ["traces_not_taken"]
    assert caplog.records == []


def test_a_collector_that_never_answers_holds_nobody_up_and_costs_bounded_memory(trace, collector):
    trace()
    collector.open.clear()
    emitted = 2 * (tracing_sdk.QUEUE + tracing_sdk.BATCH)
    for number in range(emitted):  # this would never end if anybody waited for the collector
        with tracing.span("x", {"number": number}):
            pass
    collector.open.set()

    def numbers():
        return [span.attributes["number"] for span in collector.spans()]

    collector.until(lambda: emitted - 1 in numbers(), "the newest span")
    assert len(numbers()) <= tracing_sdk.QUEUE + tracing_sdk.BATCH


def test_a_process_that_ends_waits_for_its_collector_only_a_little(trace, collector, monkeypatch):
    monkeypatch.setattr(tracing_sdk, "EXIT_PATIENCE_S", 0.05)
    tracer = trace()
    collector.open.clear()
    with tracing.span("x"):
        pass
    tracer.close()

    assert tracer._closer.is_alive(), "it was waited for to the end"


def test_what_cannot_be_set_up_is_said_once_and_stops_nothing(trace, monkeypatch):
    trace()
    monkeypatch.setattr(tracing_sdk, "TracerProvider", None)
    with capture_logs() as lines:
        for _ in range(2):
            with tracing.span("x") as span:
                assert span is tracing.NOTHING

    assert [line["event"] for line in lines] == ["tracing_failed"]


# Processes ------------------------------------------------------------------------------------
SPEAK = """
    import os
    from apps.common import tracing, tracing_sdk

    tracing_sdk.SEND_TIMEOUT_S = tracing_sdk.EXIT_PATIENCE_S = 50  # on a busy machine
    tracing.enable(tracing.Options(endpoint=os.environ["COLLECTOR"] + "/v1/traces"))
    with tracing.span("said"):
        pass
"""
FORK = (
    SPEAK
    + """
    import multiprocessing

    def child():
        with tracing.span("said by the child", parent=asked):
            pass

    with tracing.span("asking") as span:
        asked = span.traceparent
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    print(process.exitcode, os.getpid(), process.pid)
"""
)


def test_what_a_process_said_last_arrives(collector):
    done = python(SPEAK, COLLECTOR=collector.url)
    assert done.returncode == 0, done.stderr
    assert [span.name for span in collector.spans()] == ["said"]


def test_a_forked_process_speaks_for_itself(collector):
    done = python(FORK, COLLECTOR=collector.url)
    assert done.stdout.split()[:1] == ["0"], done.stderr

    spans = {span.name: span for span in collector.spans()}
    assert len(collector.spans()) == 3
    parent, child = map(int, done.stdout.split()[1:])
    assert spans["said"].resource["process.pid"] == parent
    assert spans["said by the child"].resource["process.pid"] == child
    assert spans["said by the child"].parent == spans["asking"].id
