"""What happens is measured where it happens: once, and only if it was committed."""

import pytest
from django.db import transaction

from apps.caching import services as cache
from apps.common import events, measure
from apps.performance.models import MetricBucket, Resolution
from apps.performance.services import statistics
from apps.tokens.models import TokenRequest
from apps.tokens.models.requests import Status
from apps.tokens.services import answers, outcomes
from apps.tokens.services.acquisition import AcquireSpec
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import work


@pytest.fixture(autouse=True)
def core(monkeypatch, db):
    """No task queue, an empty cache, and commits at once."""
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, **_: call())
    cache.clear_all()


def acquire():
    return answers.answer(
        AcquireSpec(site="court"), principal=caller(), max_wait_s=0, remote_address=""
    )


def measured():
    measure.flush()
    rows = MetricBucket.objects.filter(resolution=Resolution.EVER).order_by()
    found = {}
    for row in rows:
        key = (row.metric, row.site, row.label)
        found[key] = found.get(key, 0) + row.n
    return found


def test_an_acquisition_is_measured_from_asking_to_handing_out():
    make_account(make_site("court"))
    assert acquire()[0] == 202
    assert work() == 1
    assert acquire()[0] == 200
    assert measured() == {
        (events.ACQUISITIONS, "court", "success"): 1,
        (events.TOTAL_S, "court", ""): 1,
        (events.QUEUE_WAIT_S, "court", ""): 1,
        (events.LOGINS, "court", "ok"): 1,
        (events.LOGIN_S, "court", "ok"): 1,
        (events.STORE_S, "", ""): 1,
        (events.HAND_OUTS, "court", "cached"): 1,
        (events.RETRIEVE_S, "court", ""): 1,
    }


def test_a_failed_login_is_measured_with_its_code_and_its_type():
    make_account(make_site("court", recipe={"fail": "InvalidCredentials"}))
    acquire()
    work()
    found = measured()
    assert found[events.ACQUISITIONS, "court", "credential_error"] == 1
    assert found[events.LOGINS, "court", "invalid_credentials"] == 1
    assert found[events.LOGIN_S, "court", "failed"] == 1
    assert found[events.ERROR_TYPES, "", "api_error"] == 1
    assert statistics.metrics().success_rate == 0.0


def test_a_cancelled_request_is_nobodys_failure():
    make_account(make_site("court"))
    acquire()
    row = TokenRequest.objects.get()
    outcomes.end(row.pk, Status.CANCELLED, at=row.created_at)
    measure.flush()
    found = statistics.metrics()
    assert (found.total, found.cancelled, found.success_rate) == (0, 1, None)


def test_a_request_is_measured_once_though_it_is_ended_twice():
    make_account(make_site("court"))
    acquire()
    row = TokenRequest.objects.get()
    for _ in range(2):
        outcomes.end(row.pk, Status.EXPIRED, at=row.created_at, error_code="request_expired")
    assert measured()[events.ACQUISITIONS, "court", "timeout"] == 1


def test_what_is_rolled_back_is_not_measured(monkeypatch):
    make_account(make_site("court"))
    acquire()
    row = TokenRequest.objects.get()
    later = []
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, **_: later.append(call))
    with transaction.atomic():
        outcomes.end(row.pk, Status.DONE, at=row.created_at)
        transaction.set_rollback(True)
    assert measured() == {}
    assert later


def test_an_api_request_is_measured_by_its_route(client):
    caller = client()
    make_site("court")
    for path in ("sites/court", "sites/other", "nowhere"):
        caller.get(f"/api/v1/automation/{path}")
    found = measured()
    assert found[events.API_S, "", "GET /api/v1/automation/sites/{slug}"] == 2
    assert found[events.API_S, "", "GET /unknown"] == 1
    assert found[events.ANSWERS, "", "4xx"] == 2
    assert found[events.ERROR_CODES, "", "not_found"] == 2
    assert found[events.ERROR_TYPES, "", "validation_error"] == 2


def test_the_edge_measures_too():
    import asyncio

    from apps.common import edge

    async def handle(scope, receive):
        return 200, {}

    async def send(message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/api/v1/automation/x", "headers": []}
    asyncio.run(edge.serve(handle, scope, None, send))
    assert measured()[events.API_S, "", "GET /api/v1/automation/x"] == 1


def test_the_web_process_is_sampled_from_its_start_and_loses_nothing_at_its_end(recorder):
    import asyncio

    from config.asgi import application

    rows = []
    recorder.set_sink(rows.extend, background=True)
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive():
        return {"type": next(messages)}

    async def send(message):
        if message["type"] == "lifespan.startup.complete":
            assert recorder._thread.is_alive()
            measure.count("x")

    asyncio.run(application({"type": "lifespan"}, receive, send))
    assert [row.metric for row in rows] == ["x"]
