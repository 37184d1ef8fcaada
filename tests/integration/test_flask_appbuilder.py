"""The recipe for Flask-AppBuilder against a Flask-AppBuilder application."""

import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from apps.common import clock
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import ProbeVerdict
from apps.tokens.errors import InvalidCredentials, RefreshRejected
from tests.integration.loginservers import LoginServer
from tests.tokens.connectors.fakes import FakeContext

pytestmark = pytest.mark.loginservers


@pytest.fixture
def connector():
    return connector_for("http_recipe")


def context(server: LoginServer, **secrets: str) -> FakeContext:
    return FakeContext(site=server.site(), credentials=server.credentials(**secrets))


def menu(server: LoginServer, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{server.url}/api/v1/menu/", headers=headers, trust_env=False)


def aged(server: LoginServer, token: str, by_s: int) -> str:
    """Return a token of the server as it would be `by_s` seconds later, signed with its key."""
    key = OctKey.import_key(server.keys["jwt_secret"])
    found = jwt.decode(token, key)
    times = {name: found.claims[name] - by_s for name in ("iat", "nbf", "exp")}
    return jwt.encode(found.header, {**found.claims, **times}, key)


async def test_the_login_gives_a_token_that_opens_the_api(connector, flask_appbuilder: LoginServer):
    grant = await connector.login(context(flask_appbuilder))

    assert menu(flask_appbuilder, grant.material.bearer).status_code == 200
    assert menu(flask_appbuilder, "forged").status_code == 422
    assert grant.refresh_token


async def test_the_token_says_when_it_ends(connector, flask_appbuilder: LoginServer):
    grant = await connector.login(context(flask_appbuilder))

    assert grant.expires_at is not None
    assert timedelta(minutes=14) < grant.expires_at - clock.now() <= timedelta(minutes=15)


async def test_a_wrong_password_is_invalid_credentials(connector, flask_appbuilder: LoginServer):
    with pytest.raises(InvalidCredentials) as caught:
        await connector.login(context(flask_appbuilder, password="wrong"))
    assert type(caught.value) is InvalidCredentials


async def test_an_unknown_user_is_invalid_credentials(connector, flask_appbuilder: LoginServer):
    given = flask_appbuilder.credentials(username="nobody")

    with pytest.raises(InvalidCredentials):
        await connector.login(FakeContext(site=flask_appbuilder.site(), credentials=given))


async def test_refresh_gives_a_new_token_and_keeps_the_refresh_token(
    connector, flask_appbuilder: LoginServer
):
    run = context(flask_appbuilder)
    first = await connector.login(run)

    second = await connector.refresh(run, first.refresh_token)
    third = await connector.refresh(run, first.refresh_token)

    assert second.refresh_token is None
    assert len({grant.material.bearer for grant in (first, second, third)}) == 3
    assert menu(flask_appbuilder, third.material.bearer).status_code == 200


async def test_refresh_with_an_expired_token_is_rejected(connector, flask_appbuilder: LoginServer):
    run = context(flask_appbuilder)
    grant = await connector.login(run)

    # Ten days old it still works, which shows that the age alone decides.
    await connector.refresh(run, aged(flask_appbuilder, grant.refresh_token, 10 * 86_400))
    with pytest.raises(RefreshRejected):
        await connector.refresh(run, aged(flask_appbuilder, grant.refresh_token, 31 * 86_400))


async def test_refresh_with_an_access_token_is_rejected(connector, flask_appbuilder: LoginServer):
    run = context(flask_appbuilder)
    grant = await connector.login(run)

    with pytest.raises(RefreshRejected):
        await connector.refresh(run, grant.material.bearer)


async def test_probe_knows_a_good_token_and_an_expired_one(
    connector, flask_appbuilder: LoginServer
):
    run = context(flask_appbuilder)
    material = (await connector.login(run)).material

    assert await connector.probe(run, material) is ProbeVerdict.GOOD
    for age_s, verdict in ((60, ProbeVerdict.GOOD), (901, ProbeVerdict.BAD)):
        old = replace(material, bearer=aged(flask_appbuilder, material.bearer, age_s))
        assert await connector.probe(run, old) is verdict


async def test_probe_knows_a_forged_token(connector, flask_appbuilder: LoginServer):
    run = context(flask_appbuilder)
    material = (await connector.login(run)).material
    key = OctKey.import_key("another key that is long enough for it")
    forged = jwt.encode({"alg": "HS256"}, {"sub": "1", "exp": int(time.time()) + 900}, key)

    assert await connector.probe(run, replace(material, bearer=forged)) is ProbeVerdict.BAD


async def test_health_asks_without_logging_in(connector, flask_appbuilder: LoginServer):
    run = context(flask_appbuilder)

    assert await connector.health(run) is True
    assert "secret" not in run.events
