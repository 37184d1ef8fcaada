"""What a recipe can do with a token it has: refresh, probe, keep alive, log out; and health."""

import httpx
import pytest

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.contracts import Cookie, ProbeVerdict, TokenMaterial
from apps.tokens.errors import (
    LeaseLost,
    RateLimited,
    RecipeError,
    RefreshRejected,
    SiteUnavailable,
    UnexpectedPage,
)
from tests.tokens.connectors.recipes import context_for, one_step

CONNECTOR = HttpRecipeConnector()
MATERIAL = TokenMaterial(
    bearer="t0",
    headers={"X-Auth": "h0"},
    cookies=(
        Cookie(name="sid", value="c0", domain="portal.example"),
        Cookie(name="other", value="c1", domain="other.example"),
    ),
    user_agent="Mozilla/5.0 (tied)",
)
REFRESH = """
refresh_token: first
refresh:
  steps:
    - name: renew
      method: POST
      url: https://portal.example/refresh
      form: {r: "${refresh_token}"}
      failures: [{when: {status: 403}, is: invalid_credentials}]
      capture: {token: {jmespath: token}, next: {jmespath: next, default: ""}}
  refresh_token: ${next}
"""


def with_step(name, extra=""):
    return one_step("").replace(
        'token: {bearer: "${token}"}',
        "token: {bearer: '${token}', headers: {X-Auth: '${token}'}, cookies: all}\n"
        f"{name}: {{url: 'https://portal.example/me', headers: "
        f"{{Authorization: 'Bearer ${{token.bearer}}', X-Auth: '${{token.headers.X-Auth}}', "
        f"X-Sid: '${{token.cookies.sid}}'}}{extra}}}",
    )


async def refreshed(*said):
    context = context_for(one_step("") + REFRESH, list(said))
    return await CONNECTOR.refresh(context, "r0"), context


async def test_a_refresh_trades_the_token():
    grant, context = await refreshed(httpx.Response(200, json={"token": "t1", "next": "r1"}))
    assert (grant.material.bearer, grant.refresh_token) == ("t1", "r1")
    assert context.requests[0].content == b"r=r0"
    assert "secret" not in context.events


async def test_a_refresh_that_gives_no_new_refresh_token_says_so():
    grant, _context = await refreshed(httpx.Response(200, json={"token": "t1"}))
    assert grant.refresh_token is None


@pytest.mark.parametrize("status", [401, 403])
async def test_a_rejected_refresh_token(status):
    with pytest.raises(RefreshRejected) as caught:
        await refreshed(httpx.Response(status))
    assert caught.value.step == "renew"


async def test_an_unclear_refresh_is_no_rejection():
    with pytest.raises(UnexpectedPage):
        await refreshed(httpx.Response(400))
    with pytest.raises(SiteUnavailable):
        await refreshed(httpx.Response(503))


async def test_a_probe_sends_the_token_with_its_own_user_agent_and_cookies():
    context = context_for(with_step("probe"), [httpx.Response(200)])
    assert await CONNECTOR.probe(context, MATERIAL) is ProbeVerdict.GOOD
    sent = context.requests[0].headers
    assert (sent["authorization"], sent["x-auth"], sent["x-sid"]) == ("Bearer t0", "h0", "c0")
    assert (sent["cookie"], sent["user-agent"]) == ("sid=c0", "Mozilla/5.0 (tied)")


@pytest.mark.parametrize(
    ("said", "extra", "verdict"),
    [
        (httpx.Response(401), "", ProbeVerdict.BAD),
        (httpx.Response(302), ", failures: [{when: {status: 302}, is: invalid_credentials}]",
         ProbeVerdict.BAD),
        (httpx.Response(403), ", failures: [{when: {status: 403}, is: account_locked}]",
         ProbeVerdict.BAD),
        (httpx.Response(302), "", ProbeVerdict.UNCLEAR),
        (httpx.Response(403), "", ProbeVerdict.UNCLEAR),
        (httpx.Response(429), "", ProbeVerdict.UNCLEAR),
        (httpx.Response(500), "", ProbeVerdict.UNCLEAR),
    ],
)  # fmt: skip
async def test_verdicts_of_a_probe(said, extra, verdict):
    context = context_for(with_step("probe", extra), [said])
    assert await CONNECTOR.probe(context, MATERIAL) is verdict


async def test_a_probe_that_cannot_reach_the_site_is_unclear():
    def refuse(request):
        raise httpx.ConnectError("refused")

    context = context_for(with_step("probe"), refuse)
    assert await CONNECTOR.probe(context, MATERIAL) is ProbeVerdict.UNCLEAR


async def test_what_is_our_own_fault_is_not_hidden_in_a_verdict():
    context = context_for(with_step("probe"), [httpx.Response(200)], leases=0)
    with pytest.raises(LeaseLost):
        await CONNECTOR.probe(context, MATERIAL)
    bare = TokenMaterial(bearer="t0")
    with pytest.raises(RecipeError):
        await CONNECTOR.probe(context_for(with_step("probe"), []), bare)
    health = one_step("") + "health: {url: 'https://portal.example/up'}\n"
    with pytest.raises(LeaseLost):
        await CONNECTOR.health(context_for(health, [], leases=0))


async def test_without_a_probe_nothing_is_known():
    context = context_for(one_step(""), [])
    assert await CONNECTOR.probe(context, MATERIAL) is ProbeVerdict.UNCLEAR
    assert not CONNECTOR.can_probe(context.site)
    assert CONNECTOR.can_probe(context_for(with_step("probe"), []).site)


@pytest.mark.parametrize(
    ("said", "up"),
    [(httpx.Response(200), True), (httpx.Response(503), False), (httpx.Response(404), False),
     (httpx.Response(302), False)],
)  # fmt: skip
async def test_health(said, up):
    text = one_step("") + "health: {url: '${base}/up'}\n"
    text += "variables: {base: 'https://portal.example', basic: {base64: '${client_id}'}}\n"
    context = context_for(text, [said])
    assert await CONNECTOR.health(context) is up
    assert "secret" not in context.events


async def test_health_of_a_site_that_cannot_be_reached():
    def refuse(request):
        raise httpx.ConnectError("refused")

    text = one_step("") + "health: {url: 'https://portal.example/up'}\n"
    assert await CONNECTOR.health(context_for(text, refuse)) is False
    assert await CONNECTOR.health(context_for(one_step(""), refuse)) is None


async def test_keepalive():
    assert await CONNECTOR.keepalive(
        context_for(with_step("keepalive"), [httpx.Response(200)]), MATERIAL
    )
    assert not await CONNECTOR.keepalive(
        context_for(with_step("keepalive"), [httpx.Response(401)]), MATERIAL
    )
    with pytest.raises(RateLimited):
        await CONNECTOR.keepalive(
            context_for(with_step("keepalive"), [httpx.Response(429)]), MATERIAL
        )
    assert await CONNECTOR.keepalive(context_for(one_step(""), []), MATERIAL)


@pytest.mark.parametrize("status", [200, 302, 401])
async def test_logout(status):
    context = context_for(with_step("logout"), [httpx.Response(status)])
    await CONNECTOR.logout(context, MATERIAL)
    assert len(context.requests) == 1


async def test_a_logout_that_fails_says_so():
    with pytest.raises(SiteUnavailable):
        await CONNECTOR.logout(context_for(with_step("logout"), [httpx.Response(500)]), MATERIAL)


def test_can_refresh():
    assert CONNECTOR.can_refresh(context_for(one_step("") + REFRESH, []).site)
    assert not CONNECTOR.can_refresh(context_for(one_step(""), []).site)


async def test_refresh_of_a_recipe_without_one():
    with pytest.raises(NotImplementedError):
        await CONNECTOR.refresh(context_for(one_step(""), []), "r0")
