"""The ready recipes log in with the real connectors, and name every fault for what it is."""

import asyncio
from dataclasses import replace
from typing import Any

import pyotp
import pytest

from apps.tokens import errors
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import LoginGrant, ProbeVerdict
from apps.tokens.faultlab import recipes
from apps.tokens.faultlab.behaviour import DEFAULT_TOTP_SECRET
from apps.tokens.faultlab.client import LabClient
from tests.tokens.connectors.fakes import FakeContext, make_credentials, make_site
from tests.tokens.faultlab.support import GOOD

pytest_plugins = ["tests.lab"]


class Ready:
    """A site of the lab, its ready recipe and the connector it is for."""

    def __init__(self, lab: LabClient, kind: str, **behaviour: Any) -> None:
        lab.put("s", **behaviour)
        connector = "oauth2" if kind == "oauth2" else "http_recipe"
        options = {"encoding": "gbk"} if behaviour.get("encoding") else {}
        self.site = make_site(
            connector=connector,
            recipe=getattr(recipes, f"{kind}_recipe")(lab.url, "s", **options),
            allowed_hosts=recipes.allowed_hosts(lab.url),
        )
        self.connector = connector_for(connector)
        self.connector.validate(self.site.recipe)

    def context(self, password: str = GOOD) -> FakeContext:
        secrets = {"password": password, "client_id": "anna", "client_secret": password}
        codes = [pyotp.TOTP(DEFAULT_TOTP_SECRET).now()]
        credentials = make_credentials("anna", **secrets)
        return FakeContext(site=self.site, credentials=credentials, codes=codes)

    def login(self, password: str = GOOD) -> LoginGrant:
        return asyncio.run(self.connector.login(self.context(password)))

    def probe(self, grant: LoginGrant) -> ProbeVerdict:
        return asyncio.run(self.connector.probe(self.context(), grant.material))


KINDS = [
    ("json", {}),
    ("totp", {"totp_required": True}),
    ("form", {}),
    ("form", {"encoding": "gbk"}),
    ("oauth2", {}),
]


@pytest.fixture(params=KINDS, ids=lambda each: " ".join([each[0], *each[1]]))
def kind(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return request.param


def test_it_logs_in_and_the_probe_sees_the_session_die(lab: LabClient, kind) -> None:
    ready = Ready(lab, kind[0], **kind[1])
    grant = ready.login()
    assert grant.expires_at is not None
    assert ready.probe(grant) is ProbeVerdict.GOOD
    lab.invalidate("s")
    assert ready.probe(grant) is ProbeVerdict.BAD
    counts = lab.counts("s")
    assert (counts["logins_succeeded"], counts["rejected_checks"]) == (1, 1)


def test_it_knows_a_wrong_password(lab: LabClient, kind) -> None:
    ready = Ready(lab, kind[0], **kind[1])
    with pytest.raises(errors.InvalidCredentials):
        ready.login("wrong")


def test_it_knows_a_locked_account(lab: LabClient, kind) -> None:
    ready = Ready(lab, kind[0], lockout_after=1, lockout_s=60, **kind[1])
    with pytest.raises(errors.InvalidCredentials):
        ready.login("wrong")
    with pytest.raises(errors.AccountLocked):
        ready.login()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("503", errors.SiteUnavailable),
        ("reset", errors.NetworkFailure),
        ("garbage", errors.UnexpectedPage),
        ("401", errors.InvalidCredentials),
    ],
)
def test_it_names_a_fault(lab: LabClient, kind, fault: str, expected: type[Exception]) -> None:
    ready = Ready(lab, kind[0], faults=[fault], **kind[1])
    with pytest.raises(expected):
        ready.login()


def test_it_reads_when_to_come_back(lab: LabClient, kind) -> None:
    ready = Ready(lab, kind[0], faults=[{"fault": "429", "retry_after_s": 17}], **kind[1])
    with pytest.raises(errors.RateLimited) as caught:
        ready.login()
    assert caught.value.retry_after_s == 17


def test_it_knows_a_code_that_was_used(lab: LabClient) -> None:
    ready = Ready(lab, "totp", totp_required=True)
    ready.login()
    with pytest.raises(errors.OneTimeCodeRejected):
        ready.login()


def test_health_follows_the_site(lab: LabClient, kind) -> None:
    ready = Ready(lab, kind[0], **kind[1])
    assert asyncio.run(ready.connector.health(ready.context())) is True
    lab.patch("s", down=True)
    assert asyncio.run(ready.connector.health(ready.context())) is False


def test_json_refreshes_and_knows_a_used_refresh_token(lab: LabClient) -> None:
    ready = Ready(lab, "json")
    old = ready.login().refresh_token
    new = asyncio.run(ready.connector.refresh(ready.context(), old))
    assert new.refresh_token not in ("", None, old)
    with pytest.raises(errors.RefreshRejected):
        asyncio.run(ready.connector.refresh(ready.context(), old))
    assert lab.counts("s")["refresh_replays"] == 1


def test_a_site_that_says_little_still_gives_a_token(lab: LabClient) -> None:
    ready = Ready(lab, "json", expires_in="absent", gives_refresh=False)
    recipe = recipes.json_recipe(lab.url, "s", expiry=False)
    ready.site = replace(ready.site, recipe=recipe)
    grant = ready.login()
    assert (grant.expires_at, grant.refresh_token or None) == (None, None)
    assert ready.probe(grant) is ProbeVerdict.GOOD


@pytest.mark.parametrize("kind", ["json", "form"])
def test_logout_ends_the_session(lab: LabClient, kind: str) -> None:
    ready = Ready(lab, kind)
    grant = ready.login()
    asyncio.run(ready.connector.logout(ready.context(), grant.material))
    assert ready.probe(grant) is ProbeVerdict.BAD
