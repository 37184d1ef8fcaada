"""The OAuth2 connector against django-oauth-toolkit."""

from datetime import timedelta

import httpx
import pytest

from apps.common import clock
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import ProbeVerdict
from apps.tokens.errors import InvalidCredentials, RecipeError, RefreshRejected
from tests.integration.loginservers import LoginServer
from tests.tokens.connectors.fakes import FakeContext

pytestmark = pytest.mark.loginservers
CONNECTOR = connector_for("oauth2")


def context(server: LoginServer, username: str = "", **secrets: str) -> FakeContext:
    return FakeContext(site=server.site(), credentials=server.credentials(username, **secrets))


def changed(server: LoginServer, **recipe: object) -> FakeContext:
    site = server.site(recipe={**server.recipe, **recipe})
    return FakeContext(site=site, credentials=server.credentials())


def whoami(server: LoginServer, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{server.url}/whoami", headers=headers, trust_env=False)


async def test_client_credentials_open_the_resource(dot_service: LoginServer):
    grant = await CONNECTOR.login(context(dot_service))

    assert whoami(dot_service, grant.material.bearer).json() == {"user": None}
    assert grant.refresh_token is None
    assert grant.expires_at is not None
    left = grant.expires_at - clock.now()
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_password_grant_opens_the_resource_as_that_person(dot_people: LoginServer):
    grant = await CONNECTOR.login(context(dot_people))

    assert whoami(dot_people, grant.material.bearer).json() == {"user": dot_people.username}
    assert grant.refresh_token


@pytest.mark.parametrize("client_auth", ["basic", "basic_plain", "post"])
async def test_the_client_may_be_proven_either_way(dot_people: LoginServer, client_auth: str):
    grant = await CONNECTOR.login(changed(dot_people, client_auth=client_auth))

    assert grant.material.bearer


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"client_secret": "wrong"}, {"client_id": "nobody"}]
)
async def test_a_wrong_secret_is_invalid_credentials(
    dot_people: LoginServer, wrong: dict[str, str]
):
    with pytest.raises(InvalidCredentials) as caught:
        await CONNECTOR.login(context(dot_people, **wrong))
    assert type(caught.value) is InvalidCredentials


async def test_a_wrong_service_secret_is_invalid_credentials(dot_service: LoginServer):
    with pytest.raises(InvalidCredentials):
        await CONNECTOR.login(context(dot_service, client_secret="wrong"))


@pytest.mark.parametrize(
    "recipe",
    [
        {"grant": "client_credentials"},
        {"scope": "no-such-scope"},
        {"grant": "jwt_bearer", "assertion": {"alg": "HS256"}, "client_auth": "basic"},
    ],
)
async def test_a_wrong_recipe_is_not_the_accounts_fault(
    dot_people: LoginServer, recipe: dict[str, object]
):
    with pytest.raises(RecipeError):
        await CONNECTOR.login(changed(dot_people, **recipe))


async def test_probe_knows_a_good_token_and_a_revoked_one(dot_people: LoginServer):
    run = context(dot_people)
    grant = await CONNECTOR.login(run)
    assert await CONNECTOR.probe(run, grant.material) is ProbeVerdict.GOOD

    await CONNECTOR.logout(run, grant.material)

    assert await CONNECTOR.probe(run, grant.material) is ProbeVerdict.BAD
    assert whoami(dot_people, grant.material.bearer).status_code == 403


async def test_refresh_rotates_and_the_old_token_is_refused(dot_people: LoginServer):
    run = context(dot_people)
    first = await CONNECTOR.login(run)
    assert first.refresh_token

    second = await CONNECTOR.refresh(run, first.refresh_token)

    assert second.refresh_token
    assert second.refresh_token != first.refresh_token
    assert whoami(dot_people, second.material.bearer).json() == {"user": dot_people.username}
    with pytest.raises(RefreshRejected):
        await CONNECTOR.refresh(run, first.refresh_token)


async def test_the_rotated_token_refreshes_again(dot_people: LoginServer):
    run = context(dot_people)
    first = await CONNECTOR.login(run)
    second = await CONNECTOR.refresh(run, first.refresh_token or "")

    third = await CONNECTOR.refresh(run, second.refresh_token or "")

    assert whoami(dot_people, third.material.bearer).is_success


async def test_a_stored_refresh_token_is_a_login_too(dot_people: LoginServer):
    first = await CONNECTOR.login(context(dot_people))
    site = dot_people.site(recipe={**dot_people.recipe, "grant": "refresh_token"})
    given = dot_people.credentials(refresh_token=first.refresh_token or "")

    grant = await CONNECTOR.login(FakeContext(site=site, credentials=given))

    assert whoami(dot_people, grant.material.bearer).is_success


async def test_a_spent_stored_refresh_token_is_invalid_credentials(dot_people: LoginServer):
    site = dot_people.site(recipe={**dot_people.recipe, "grant": "refresh_token"})
    given = dot_people.credentials(refresh_token="spent")

    with pytest.raises(InvalidCredentials):
        await CONNECTOR.login(FakeContext(site=site, credentials=given))


async def test_health_asks_without_logging_in(dot_service: LoginServer):
    run = context(dot_service)

    assert await CONNECTOR.health(run) is True
    assert "secret" not in run.events
