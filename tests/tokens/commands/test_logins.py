"""check_site and acquire_token: what they show, what they refuse, and what they remember."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from apps.access.journal import JOURNAL
from apps.caching import services as cache
from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import (
    AdmissionLimits,
    LoginAttempt,
    SecretVerdict,
    StoredToken,
    TokenRequest,
)
from apps.tokens.services import accounts
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

pytest_plugins = ["tests.lab"]


@pytest.fixture(autouse=True)
def alone(settings, tmp_path, monkeypatch):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    cache.clear_all()
    yield
    JOURNAL.close()
    cache.clear_all()


@pytest.fixture
def shop(lab, transactional_db):
    """The site `shop` of the lab; `check_site` logs in with threads of its own."""

    def make(password="correct-horse", **behaviour):
        lab.put("shop", **behaviour)
        site = make_site(
            "shop",
            connector="http_recipe",
            recipe=json_recipe(lab.url, "shop", refresh=False),
            allowed_hosts=list(allowed_hosts(lab.url)),
        )
        return make_account(site, password=password)

    return make


def check(*arguments):
    """Run check_site; returns what it printed and the message it failed with."""
    out = io.StringIO()
    try:
        call_command("check_site", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def test_a_check_shows_every_step_and_keeps_the_token(shop):
    shop()
    told, failure = check("shop")
    assert failure == ""
    assert "login: POST http://127.0.0.1" in told
    assert "→ 200 in" in told
    assert "token = " in told
    assert "Logged in as alice" in told
    bearer = StoredToken.objects.get().material["bearer"]
    assert bearer not in told
    assert "correct-horse" not in told


def test_a_wrong_password_is_remembered_and_not_sent_again(shop, lab):
    shop(password="wrong-word")
    told, failure = check("shop")
    assert "invalid_credentials, blamed on: credentials" in failure
    assert SecretVerdict.objects.get().wrong_at
    _, failure = check("shop", "--account", "alice")
    assert failure.startswith("No login could start: alice: secret_known_wrong")
    assert lab.counts("shop")["wrong_secrets"] == 1
    assert "wrong-word" not in told + failure


def test_a_check_keeps_to_the_limits(shop, lab):
    account = shop()
    AdmissionLimits.objects.create(pk=1, max_concurrent=1)
    from tests.tokens.work import claim

    other = make_site("other")
    make_account(other)
    call_acquire(other.slug)
    assert claim() is not None
    _, failure = check("shop")
    assert failure.startswith("No login could start")
    assert lab.counts("shop")["logins_started"] == 0
    assert not TokenRequest.objects.live().filter(site=account.site).exists()


def test_a_failing_check_ends_its_request(shop, lab):
    shop(faults=["503"])
    _, failure = check("shop")
    assert "site_unavailable" in failure
    assert LoginAttempt.objects.count() == 1
    assert not TokenRequest.objects.live().exists()


def test_a_recipe_alone_is_checked_without_a_login(shop, lab):
    shop()
    assert check("shop", "--recipe-only") == ("The recipe of shop is well formed.\n", "")
    assert lab.counts("shop")["logins_started"] == 0


def test_a_check_says_that_a_connector_is_not_installed(shop, settings):
    account = shop()
    account.site.connector = "telepathy"
    account.site.save()
    assert check("shop")[1].startswith("There is no connector 'telepathy'")


def test_a_check_of_nothing_says_what_is_missing(shop):
    shop()
    assert "There is no site 'nowhere'" in check("nowhere")[1]
    assert "no account 'bob'" in check("shop", "--account", "bob")[1]


def call_acquire(*arguments):
    """Run acquire_token without waiting; returns standard output and the failure."""
    out = io.StringIO()
    try:
        call_command("acquire_token", *arguments, "--max-wait", "0", stdout=out, stderr=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


@pytest.fixture
def court(db):
    return make_account(make_site())


def test_a_token_is_printed_and_audited(court, settings):
    assert "Still queued after 0 s" in call_acquire("court_zxfw")[1]
    work()
    assert call_acquire("court_zxfw", "--purpose", "by hand") == ("token-1-alice\n", "")
    content = json.loads(call_acquire("court_zxfw", "--json", "--account", "alice")[0])
    assert (content["token"]["bearer"], content["cached"]) == ("token-1-alice", True)
    (journal,) = settings.LATCHKEY_AUDIT_DIR.glob("*.open")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["purpose"] for line in lines] == ["by hand", ""]


def test_a_newer_token_is_asked_for_with_force(court):
    call_acquire("court_zxfw")
    work()
    assert "Still queued" in call_acquire("court_zxfw", "--force")[1]
    assert TokenRequest.objects.filter(reason="manual").count() == 1


def test_what_cannot_be_is_said_with_its_code(court):
    assert "[unknown_site]" in call_acquire("nowhere")[1]
    assert "[unknown_account]" in call_acquire("court_zxfw", "--account", "bob")[1]
    accounts.update(court, fields=[], secrets={"password": "x"})
    court.enabled = False
    accounts.update(court, fields=["enabled"])
    assert '{"reasons": {"account_disabled": 1}}' in call_acquire("court_zxfw")[1]
