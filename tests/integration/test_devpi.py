"""The recipe for devpi-server against a devpi-server."""

import secrets
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from apps.common import clock
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import Credentials, ProbeVerdict, TokenMaterial
from apps.tokens.errors import InvalidCredentials
from tests.integration.loginservers import LoginServer
from tests.tokens.connectors.fakes import FakeContext

pytestmark = pytest.mark.loginservers


@pytest.fixture
def connector():
    return connector_for("http_recipe")


def context(server: LoginServer, credentials: Credentials | None = None) -> FakeContext:
    return FakeContext(site=server.site(), credentials=credentials or server.credentials())


def send(
    server: LoginServer, method: str, path: str, material: TokenMaterial | None, data: object = None
) -> httpx.Response:
    headers = {"Accept": "application/json", **(material.headers if material else {})}
    return httpx.request(
        method, server.url + path, headers=headers, json=data, trust_env=False, timeout=60
    )


async def test_the_login_gives_a_token_that_may_make_an_index(connector, devpi: LoginServer):
    grant = await connector.login(context(devpi))
    path = f"/root/i{secrets.token_hex(4)}"

    assert send(devpi, "PUT", path, None, {}).status_code in {401, 403}
    assert send(devpi, "PUT", path, grant.material, {}).status_code == 200


async def test_the_seconds_to_live_are_the_servers(connector, devpi: LoginServer):
    grant = await connector.login(context(devpi))

    assert grant.expires_at is not None
    left = grant.expires_at - clock.now()
    assert timedelta(hours=9, minutes=59) < left <= timedelta(hours=10)
    assert grant.refresh_token is None


async def test_a_wrong_password_is_invalid_credentials(connector, devpi: LoginServer):
    with pytest.raises(InvalidCredentials) as caught:
        await connector.login(context(devpi, devpi.credentials(password="wrong")))
    assert type(caught.value) is InvalidCredentials


async def test_an_unknown_user_is_invalid_credentials(connector, devpi: LoginServer):
    with pytest.raises(InvalidCredentials):
        await connector.login(context(devpi, devpi.credentials(username="nobody")))


async def test_probe_knows_a_good_token_and_a_forged_one(connector, devpi: LoginServer):
    run = context(devpi)
    material = (await connector.login(run)).material
    forged = replace(material, headers={"X-Devpi-Auth": "cm9vdDpmb3JnZWQ="})

    assert await connector.probe(run, material) is ProbeVerdict.GOOD
    assert await connector.probe(run, forged) is ProbeVerdict.BAD


async def test_probe_knows_a_token_whose_user_was_removed(connector, devpi: LoginServer):
    root = (await connector.login(context(devpi))).material
    name, password = f"u{secrets.token_hex(4)}", secrets.token_hex(16)
    send(devpi, "PUT", f"/{name}", root, {"password": password}).raise_for_status()
    run = context(devpi, Credentials(username=name, secrets={"password": password}))
    material = (await connector.login(run)).material
    assert await connector.probe(run, material) is ProbeVerdict.GOOD

    send(devpi, "DELETE", f"/{name}", root).raise_for_status()

    assert await connector.probe(run, material) is ProbeVerdict.BAD


async def test_health_asks_without_logging_in(connector, devpi: LoginServer):
    run = context(devpi)

    assert await connector.health(run) is True
    assert "secret" not in run.events
