"""Which connectors can be named, and how a wrong registration is reported."""

import sys
import types

import pytest
from django.core.checks import run_checks

from apps.tokens.connectors import registry
from apps.tokens.connectors.base import BaseConnector
from apps.tokens.contracts import ProbeVerdict
from apps.tokens.errors import RecipeError
from tests.tokens.connectors.fakes import FakeContext, make_site


class Portal(BaseConnector):
    async def login(self, context):
        raise NotImplementedError


class Half:
    async def login(self, context): ...


class Needy(Portal):
    def __init__(self, url):
        self.url = url


HERE = __name__


@pytest.fixture
def registered(settings):
    settings.LATCHKEY_CONNECTORS = {"portal": f"{HERE}.Portal"}
    return settings.LATCHKEY_CONNECTORS


def test_names_are_built_in_and_registered(registered):
    assert registry.names() == ("http_recipe", "oauth2", "portal")


def test_a_registered_class_is_made_once(registered):
    assert isinstance(registry.connector_for("portal"), Portal)
    assert registry.connector_for("portal") is registry.connector_for("portal")


def test_an_unknown_name_says_what_there_is(registered):
    with pytest.raises(RecipeError, match="http_recipe, oauth2, portal"):
        registry.connector_for("portall")


def test_a_built_in_is_loaded_when_first_used(monkeypatch):
    module = types.ModuleType("apps.tokens.connectors.lazy")
    module.Lazy = Portal
    monkeypatch.setitem(registry.BUILT_IN, "lazy", "apps.tokens.connectors.lazy.Lazy")
    monkeypatch.setitem(sys.modules, "apps.tokens.connectors.lazy", module)
    assert isinstance(registry.connector_for("lazy"), Portal)


def test_good_registrations_pass_the_check(registered):
    assert registry.check_connectors() == []


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("portal", "nowhere.to.be.Found", "cannot be imported"),
        ("portal", f"{HERE}.Absent", "cannot be imported"),
        ("portal", f"{HERE}.Half", "lacks refresh, probe"),
        ("portal", f"{HERE}.Needy", "without arguments"),
        ("oauth2", f"{HERE}.Portal", "built-in"),
    ],
)
def test_a_bad_registration_is_an_error_at_start(settings, name, path, said):
    settings.LATCHKEY_CONNECTORS = {name: path}
    (error,) = registry.check_connectors()
    assert said in error.msg
    assert path in error.msg


def test_a_class_that_cannot_be_loaded_is_the_recipes_fault(settings):
    settings.LATCHKEY_CONNECTORS = {"portal": "nowhere.to.be.Found"}
    with pytest.raises(RecipeError, match=r"nowhere\.to\.be\.Found"):
        registry.connector_for("portal")


async def test_what_a_connector_does_not_override_is_switched_off():
    connector, context, site = Portal(), FakeContext(), make_site()
    assert await connector.probe(context, None) is ProbeVerdict.UNCLEAR
    assert await connector.health(context) is None
    assert await connector.keepalive(context, None) is True
    assert await connector.logout(context, None) is None
    assert (connector.can_refresh(site), connector.can_probe(site)) == (False, False)
    assert connector.validate({}) is None
    assert connector.secret_names(site) == {"password"}
    with pytest.raises(NotImplementedError):
        await connector.refresh(context, "r")
    assert context.events == []


def test_the_check_runs_at_start(settings):
    settings.LATCHKEY_CONNECTORS = {"portal": "nowhere.to.be.Found"}
    assert "tokens.E001" in {message.id for message in run_checks()}
