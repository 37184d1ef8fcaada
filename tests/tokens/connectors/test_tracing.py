"""What a trace shows of the way to a site: steps, methods, hosts, codes, and nothing else."""

import httpx
import pytest

from apps.tokens.connectors.oauth2 import OAuth2Connector
from apps.tokens.errors import LoginFailure, NetworkFailure
from tests.tokens.connectors.fakes import FakeContext
from tests.tokens.connectors.oauth2_site import GOOD, context

pytest_plugins = ["tests.otlp"]

CLIENT = 3
VERIFY = {"url": "${base}/me/canary"}


def told(collector):
    """Name → (kind, attributes, failed), in the order in which the spans ended."""
    return {span.name: (span.kind, span.attributes, span.failed) for span in collector.spans()}


async def test_the_steps_of_oauth2_are_spans_with_their_exchanges_below(trace, collector):
    tracer = trace()
    await OAuth2Connector().login(context(GOOD, httpx.Response(204), verify=VERIFY))
    tracer.close()

    spans = {span.name: span for span in collector.spans()}
    assert list(spans) == ["POST portal.example", "step login", "GET portal.example", "step verify"]
    assert spans["POST portal.example"].parent == spans["step login"].id
    assert spans["GET portal.example"].parent == spans["step verify"].id
    assert b"canary" not in b"".join(collector.bodies)


async def test_a_refused_step_says_its_code(trace, collector):
    tracer = trace()
    refused = httpx.Response(400, json={"error": "invalid_grant", "error_description": "canary"})
    with pytest.raises(LoginFailure):
        await OAuth2Connector().login(context(refused))
    tracer.close()

    _, attributes, failed = told(collector)["step login"]
    assert failed
    assert attributes == {"error.type": "invalid_credentials"}
    assert b"canary" not in b"".join(collector.bodies)


async def test_an_exchange_is_method_host_port_and_status_and_the_site_is_told_nothing(
    trace, collector
):
    tracer = trace()
    run = FakeContext(handler=lambda _request: httpx.Response(404))
    async with run.http() as client:
        await client.put("http://u:canary@localhost:81/canary?token=canary", content="canary")
    tracer.close()

    facts = {
        "http.request.method": "PUT",
        "server.address": "localhost",
        "server.port": 81,
        "http.response.status_code": 404,
    }
    assert told(collector) == {"PUT localhost": (CLIENT, facts, False)}
    assert not {"traceparent", "tracestate", "baggage"} & {*run.requests[0].headers}
    assert b"canary" not in b"".join(collector.bodies)


async def test_an_exchange_that_fails_says_how(trace, collector):
    def fail(_request):
        raise httpx.ConnectError("canary")

    tracer = trace()
    async with FakeContext(handler=fail).http() as client:
        with pytest.raises(NetworkFailure):
            await client.get("http://localhost/")
    tracer.close()

    _, attributes, failed = told(collector)["GET localhost"]
    assert (attributes["error.type"], failed) == ("network_error", True)
    assert b"canary" not in b"".join(collector.bodies)
