"""The grants of the OAuth2 connector: what is sent, in which order, and what comes of it."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from apps.common import clock
from apps.tokens.connectors.oauth2 import OAuth2Connector
from apps.tokens.errors import (
    HostNotAllowed,
    LeaseLost,
    LoginTimedOut,
    RateLimited,
    RecipeError,
    RefreshRejected,
    SiteUnavailable,
    UnexpectedPage,
)
from tests.tokens.connectors.oauth2_site import GOOD, context, form

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CONNECTOR = OAuth2Connector()


@pytest.fixture(autouse=True)
def _fixed_clock(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


async def test_password_grant_sends_user_scope_and_client():
    run = context(GOOD, scope=["read", "write"], audience="api", extra={"realm": "${site}"})

    await CONNECTOR.login(run)

    (request,) = run.requests
    assert form(request) == {
        "grant_type": "password",
        "username": "alice",
        "password": "s3cret-Passw0rd",
        "scope": "read write",
        "audience": "api",
        "realm": "court_zxfw",
    }
    basic = b64encode(b"portal:cl1ent-s3cret").decode()
    assert request.headers["Authorization"] == f"Basic {basic}"
    assert request.headers["Content-Type"].startswith("application/x-www-form-urlencoded")


async def test_client_credentials_take_the_username_as_client_id():
    run = context(GOOD, grant="client_credentials", secrets={"client_id": ""}, client_auth="post")

    await CONNECTOR.login(run)

    assert form(run.requests[0]) == {
        "grant_type": "client_credentials",
        "client_id": "alice",
        "client_secret": "cl1ent-s3cret",
    }


async def test_basic_authentication_encodes_both_parts_as_the_rfc_says():
    run = context(GOOD, secrets={"client_id": "a:b", "client_secret": "p+w ü%"})

    await CONNECTOR.login(run)

    expected = b64encode(b"a%3Ab:p%2Bw+%C3%BC%25").decode()
    assert run.requests[0].headers["Authorization"] == f"Basic {expected}"


async def test_basic_plain_encodes_nothing():
    run = context(GOOD, secrets={"client_secret": "p+w="}, client_auth="basic_plain")

    await CONNECTOR.login(run)

    expected = b64encode(b"portal:p+w=").decode()
    assert run.requests[0].headers["Authorization"] == f"Basic {expected}"


async def test_basic_plain_refuses_what_it_cannot_send():
    run = context(GOOD, secrets={"client_secret": "密码"}, client_auth="basic_plain")

    with pytest.raises(RecipeError, match="basic_plain"):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_a_public_client_sends_its_name_and_no_secret():
    run = context(GOOD, client_auth="none")

    await CONNECTOR.login(run)

    sent = form(run.requests[0])
    assert sent["client_id"] == "portal"
    assert "client_secret" not in sent
    assert "Authorization" not in run.requests[0].headers


async def test_the_secret_is_announced_before_it_leaves():
    run = context(GOOD)

    await CONNECTOR.login(run)

    assert run.events == ["secret", "lease", "sent POST /token"]


async def test_a_grant_tells_token_expiry_and_refresh_token():
    run = context({**GOOD, "refresh_token": "rt-1", "refresh_expires_in": 86_400})

    grant = await CONNECTOR.login(run)

    assert grant.material.bearer == "at-1"
    assert grant.expires_at == NOW + timedelta(hours=1)
    assert grant.refresh_token == "rt-1"
    assert grant.refresh_expires_at == NOW + timedelta(days=1)


async def test_a_slow_answer_does_not_lengthen_a_tokens_life(monkeypatch):
    run = context()

    def answer_late(_request):
        monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(seconds=25))
        return httpx.Response(200, json=GOOD)

    run.handler = answer_late

    assert (await CONNECTOR.login(run)).expires_at == NOW + timedelta(hours=1)


async def test_a_lease_that_is_lost_stops_the_secret():
    run = context(GOOD)
    run.leases = 0

    with pytest.raises(LeaseLost):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_a_token_url_outside_the_list_is_never_asked():
    run = context(GOOD, token_url="https://elsewhere.example/token")

    with pytest.raises(HostNotAllowed):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_a_redirect_of_the_token_endpoint_is_not_followed():
    run = context(httpx.Response(307, headers={"Location": "https://portal.example/other"}))

    with pytest.raises(UnexpectedPage):
        await CONNECTOR.login(run)
    assert len(run.requests) == 1


@pytest.mark.parametrize("missing", ["password", "client_secret", "client_id"])
async def test_a_missing_secret_is_named_and_nothing_is_sent(missing):
    run = context(GOOD, secrets={missing: ""})

    with pytest.raises(RecipeError, match=missing):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_an_unknown_variable_is_named_and_nothing_is_sent():
    run = context(GOOD, extra={"tenant": "${tenant}"})

    with pytest.raises(RecipeError, match=r"extra\.tenant: variable 'tenant'"):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_a_url_cannot_hold_a_secret():
    run = context(GOOD, token_url="${base}/token?p=${password}")

    with pytest.raises(RecipeError, match="password"):
        await CONNECTOR.login(run)
    assert run.requests == []


async def test_verify_asks_with_the_new_token():
    run = context(GOOD, httpx.Response(204), verify={"url": "${base}/me"})

    await CONNECTOR.login(run)

    assert run.requests[1].headers["Authorization"] == "Bearer at-1"
    assert run.stages == ["logging_in", "verifying"]
    assert [(trace.step, trace.status) for trace in run.traces] == [("login", 200), ("verify", 204)]


@pytest.mark.parametrize(
    ("status", "failure"), [(401, UnexpectedPage), (429, RateLimited), (503, SiteUnavailable)]
)
async def test_a_token_that_opens_nothing_is_never_the_passwords_fault(status, failure):
    run = context(GOOD, httpx.Response(status), verify={"url": "${base}/me"})

    with pytest.raises(failure) as caught:
        await CONNECTOR.login(run)
    assert type(caught.value) is failure
    assert caught.value.step == "verify"


async def test_refresh_trades_the_token_and_takes_the_rotated_one():
    run = context({**GOOD, "refresh_token": "rt-2"})

    grant = await CONNECTOR.refresh(run, "rt-1")

    assert form(run.requests[0]) == {"grant_type": "refresh_token", "refresh_token": "rt-1"}
    assert grant.refresh_token == "rt-2"
    assert run.events[0] == "secret"  # the client's own goes with it


async def test_refresh_without_a_new_refresh_token_says_none():
    grant = await CONNECTOR.refresh(context(GOOD), "rt-1")

    assert grant.refresh_token is None


async def test_a_public_client_refreshes_without_sending_a_secret():
    run = context(GOOD, client_auth="none")

    await CONNECTOR.refresh(run, "rt-1")

    assert "secret" not in run.events


async def test_refresh_rejected_by_the_site():
    run = context(httpx.Response(400, json={"error": "invalid_grant"}))

    with pytest.raises(RefreshRejected):
        await CONNECTOR.refresh(run, "rt-1")


async def test_the_refresh_token_grant_logs_in_with_a_stored_secret():
    run = context(GOOD, grant="refresh_token", secrets={"refresh_token": "offline-1"})

    await CONNECTOR.login(run)

    sent = form(run.requests[0])
    assert sent == {"grant_type": "refresh_token", "refresh_token": "offline-1"}
    assert run.events[0] == "secret"


async def test_a_login_that_outlives_its_deadline():
    run = context(GOOD)
    run.deadline = lambda: 0.0

    with pytest.raises(LoginTimedOut):
        await CONNECTOR.login(run)


async def test_traces_hold_no_query_and_no_secret():
    run = context(GOOD, token_url="${base}/token?key=k1")

    await CONNECTOR.login(run)

    assert run.traces[0].url == "https://portal.example/token"
    assert "k1" not in repr(run.traces)
    assert "s3cret" not in repr(run.traces)
