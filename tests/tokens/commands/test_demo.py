"""The demonstration site: made once, never taken from its owner, and honest after a restart."""

import io

import pytest
from django.core.management import CommandError, call_command

from apps.tokens.models import Account, Site, StoredToken
from apps.tokens.services import acquisition
from apps.tokens.services.acquisition import AcquireSpec
from tests.tokens.factories import caller
from tests.tokens.work import work

pytestmark = pytest.mark.django_db


def demo():
    out = io.StringIO()
    call_command("demo", stdout=out)
    return out.getvalue()


def test_it_is_made_once():
    assert "is registered" in demo()
    assert "is registered" in demo()
    assert Account.objects.get().site == Site.objects.get(slug="court_zxfw")


def test_a_token_of_an_earlier_lab_is_not_handed_out(settings, monkeypatch):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    demo()
    Site.objects.update(connector="scripted")
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    assert work() == 1
    demo()
    assert StoredToken.objects.get().revoked_at


def test_a_site_that_became_somebodys_own_stays_as_it_is():
    demo()
    Site.objects.update(recipe={"version": 1}, allowed_hosts=["portal.example"])
    Account.objects.all().delete()
    assert "stays as it is" in demo()
    site = Site.objects.get()
    assert (site.recipe, site.allowed_hosts) == ({"version": 1}, ["portal.example"])
    assert not Account.objects.exists()


def test_production_has_none(settings):
    settings.LATCHKEY_ALLOW_FAULT_LAB = False
    with pytest.raises(CommandError):
        demo()
