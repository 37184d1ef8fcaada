"""Probe, health, logout of the OAuth2 connector, and what it says of itself."""

import httpx
import pytest

from apps.tokens.connectors.oauth2 import OAuth2Connector
from apps.tokens.contracts import ProbeVerdict, TokenMaterial
from apps.tokens.errors import RecipeError, SiteUnavailable, UnexpectedPage
from tests.tokens.connectors.fakes import make_site
from tests.tokens.connectors.oauth2_site import GOOD, context, form, recipe

CONNECTOR = OAuth2Connector()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (httpx.Response(200), ProbeVerdict.GOOD),
        (httpx.Response(401), ProbeVerdict.BAD),
        (httpx.Response(302, headers={"Location": "/login"}), ProbeVerdict.UNCLEAR),
        (httpx.Response(403), ProbeVerdict.UNCLEAR),
        (httpx.Response(429), ProbeVerdict.UNCLEAR),
        (httpx.Response(502), ProbeVerdict.UNCLEAR),
    ],
)
async def test_probe_verdicts(answer, verdict):
    run = context(answer, probe={"url": "${base}/me"})

    assert await CONNECTOR.probe(run, TokenMaterial(bearer="at-1")) is verdict
    assert "secret" not in run.events


async def test_a_probe_says_which_statuses_mean_bad():
    run = context(httpx.Response(403), probe={"url": "${base}/me", "bad_status": [401, 403]})

    assert await CONNECTOR.probe(run, TokenMaterial(bearer="at-1")) is ProbeVerdict.BAD


async def test_a_probe_that_times_out_is_unclear():
    run = context(GOOD, probe={"url": "${base}/me"})
    run.deadline = lambda: 0.0

    assert await CONNECTOR.probe(run, TokenMaterial(bearer="at-1")) is ProbeVerdict.UNCLEAR


async def test_a_probe_may_send_the_token_its_own_way():
    step = {"url": "${base}/me", "headers": {"Authorization": "token ${token.bearer}"}}
    run = context(httpx.Response(200), probe=step)

    await CONNECTOR.probe(run, TokenMaterial(bearer="at-1"))

    assert run.requests[0].headers.get_list("Authorization") == ["token at-1"]


async def test_a_probe_that_sends_a_secret_announces_it():
    step = {"url": "${base}/me", "headers": {"X-Key": "${client_secret}"}}
    run = context(httpx.Response(200), probe=step)

    await CONNECTOR.probe(run, TokenMaterial(bearer="at-1"))

    assert run.events[0] == "secret"


@pytest.mark.parametrize(("status", "up"), [(200, True), (405, False), (503, False)])
async def test_health_is_what_the_url_answers(status, up):
    run = context(httpx.Response(status), health={"url": "${base}/up"})

    assert await CONNECTOR.health(run) is up
    assert "secret" not in run.events


async def test_health_of_a_site_that_cannot_be_reached():
    def refuse(_request):
        raise httpx.ConnectError("refused")

    run = context(health={"url": "${base}/up"})
    run.handler = refuse

    assert await CONNECTOR.health(run) is False


async def test_no_health_without_a_url():
    assert await CONNECTOR.health(context()) is None


async def test_logout_revokes_the_token():
    run = context(httpx.Response(200), revoke_url="${base}/revoke", client_auth="post")

    await CONNECTOR.logout(run, TokenMaterial(bearer="at-1"))

    assert form(run.requests[0]) == {
        "token": "at-1",
        "token_type_hint": "access_token",
        "client_id": "portal",
        "client_secret": "cl1ent-s3cret",
    }
    assert run.events[0] == "secret"


async def test_logout_without_a_revoke_url_sends_nothing():
    run = context()

    await CONNECTOR.logout(run, TokenMaterial(bearer="at-1"))

    assert run.requests == []


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (httpx.Response(503), SiteUnavailable),
        (httpx.Response(400, json={"error": "unsupported_token_type"}), RecipeError),
        (httpx.Response(404), UnexpectedPage),
    ],
)
async def test_a_failed_logout_says_why(answer, failure):
    run = context(answer, revoke_url="${base}/revoke")

    with pytest.raises(failure):
        await CONNECTOR.logout(run, TokenMaterial(bearer="at-1"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"password", "client_id", "client_secret"}),
        ({"client_id": "shared"}, {"password", "client_secret"}),
        ({"client_id": "shared", "client_auth": "none"}, {"password"}),
        ({"grant": "client_credentials"}, {"client_id", "client_secret"}),
        ({"grant": "refresh_token"}, {"refresh_token", "client_id", "client_secret"}),
        ({"grant": "jwt_bearer", "assertion": {"alg": "ES256"}}, {"private_key", "client_id"}),
        ({"grant": "jwt_bearer", "assertion": {"alg": "HS256"}}, {"client_secret", "client_id"}),
        (
            {"grant": "client_credentials", "client_auth": "private_key_jwt"},
            {"private_key", "client_id"},
        ),
        (
            {"client_id": "shared", "client_auth": "none", "extra": {"k": "${api_key}${base}"}},
            {"password", "api_key"},
        ),
        (
            {
                "client_id": "shared",
                "client_auth": "none",
                "verify": {"url": "u", "headers": {"K": "${site_key} ${token.bearer}"}},
            },
            {"password", "site_key"},
        ),
    ],
)
def test_secret_names_are_what_a_login_sends_or_signs_with(changes, names):
    site = make_site(recipe=recipe(**changes))

    assert CONNECTOR.secret_names(site) == names


@pytest.mark.parametrize(
    ("changes", "can"),
    [
        ({}, True),
        ({"grant": "client_credentials"}, False),
        ({"grant": "client_credentials", "refresh": True}, True),
        ({"refresh": False}, False),
    ],
)
def test_can_refresh_follows_the_grant_unless_the_recipe_says(changes, can):
    assert CONNECTOR.can_refresh(make_site(recipe=recipe(**changes))) is can


def test_can_probe_only_with_a_probe():
    assert not CONNECTOR.can_probe(make_site(recipe=recipe(verify={"url": "u"})))
    assert CONNECTOR.can_probe(make_site(recipe=recipe(probe={"url": "u"})))
