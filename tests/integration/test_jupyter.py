"""The recipe for Jupyter Server against a Jupyter Server."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

import httpx
import pytest

from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import Cookie, ProbeVerdict, TokenMaterial
from apps.tokens.errors import InvalidCredentials
from tests.integration import environment
from tests.integration.loginservers import LoginServer
from tests.tokens.connectors.fakes import FakeContext

pytestmark = pytest.mark.loginservers
# What the server itself signs cookies with; only the time is ours.
SIGN_OLD = """
import sys, time
from tornado.web import create_signed_value, decode_signed_value
secret, name, value, age_s = sys.argv[1:]
payload = decode_signed_value(secret, name, value)
then = time.time() - float(age_s)
print(create_signed_value(secret, name, payload, clock=lambda: then).decode())
"""


@pytest.fixture
def connector():
    return connector_for("http_recipe")


def context(server: LoginServer, **secrets: str) -> FakeContext:
    return FakeContext(site=server.site(), credentials=server.credentials(**secrets))


def session_of(material: TokenMaterial) -> Cookie:
    (cookie,) = (cookie for cookie in material.cookies if cookie.name != "_xsrf")
    return cookie


def me(server: LoginServer, material: TokenMaterial) -> httpx.Response:
    cookies = {cookie.name: cookie.value for cookie in material.cookies}
    return httpx.get(f"{server.url}/api/me", cookies=cookies, trust_env=False)


async def test_the_form_gives_a_session_that_opens_the_api(connector, jupyter: LoginServer):
    grant = await connector.login(context(jupyter))

    assert me(jupyter, grant.material).status_code == 200
    assert me(jupyter, TokenMaterial()).status_code == 403


async def test_the_grant_ends_when_the_session_cookie_does(connector, jupyter: LoginServer):
    grant = await connector.login(context(jupyter))

    cookie = session_of(grant.material)
    assert cookie.http_only
    assert cookie.expires is not None
    assert grant.expires_at is not None
    assert abs(grant.expires_at - cookie.expires) < timedelta(seconds=30)


async def test_a_wrong_password_is_invalid_credentials(connector, jupyter: LoginServer):
    with pytest.raises(InvalidCredentials) as caught:
        await connector.login(context(jupyter, password="wrong"))
    assert type(caught.value) is InvalidCredentials


async def test_the_password_is_announced_before_it_leaves(connector, jupyter: LoginServer):
    run = context(jupyter)

    await connector.login(run)

    # The lease is looked at for the form's page, which carries no secret, then comes the
    # announcement, then the login.
    assert [event for event, _ in groupby(run.events)][:3] == ["lease", "secret", "lease"]


async def test_probe_knows_a_good_session(connector, jupyter: LoginServer):
    run = context(jupyter)
    grant = await connector.login(run)

    assert await connector.probe(run, grant.material) is ProbeVerdict.GOOD


async def test_probe_knows_an_expired_session(connector, jupyter: LoginServer):
    run = context(jupyter)
    grant = await connector.login(run)
    fresh, old = (signed_again(jupyter, grant.material, age_s) for age_s in (60, 40 * 86_400))

    # The first shows that it is the age that the server minds, and not the making.
    assert await connector.probe(run, fresh) is ProbeVerdict.GOOD
    assert await connector.probe(run, old) is ProbeVerdict.BAD


async def test_probe_knows_a_forged_session(connector, jupyter: LoginServer):
    run = context(jupyter)
    grant = await connector.login(run)
    cookie = session_of(grant.material)
    forged = replace(cookie, value=cookie.value.replace("|", "|0", 1))

    material = replace(grant.material, cookies=(forged,))

    assert await connector.probe(run, material) is ProbeVerdict.BAD


async def test_health_asks_without_logging_in(connector, jupyter: LoginServer):
    run = context(jupyter)

    assert await connector.health(run) is True
    assert "secret" not in run.events


def signed_again(server: LoginServer, material: TokenMaterial, age_s: int) -> TokenMaterial:
    """Return the session as the server would have made it `age_s` seconds ago."""
    cookie = session_of(material)
    given = [server.keys["cookie_secret"], cookie.name, cookie.value.strip('"'), str(age_s)]
    command = [str(environment.python()), "-c", SIGN_OLD, *given]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    value = cookie.value.replace(cookie.value.strip('"'), done.stdout.strip())
    return replace(material, cookies=(replace(cookie, value=value),))
