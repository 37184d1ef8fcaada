"""The site files in docs/connectors/examples are what `import_sites` takes, and valid."""

import re
from urllib.parse import urlsplit

import httpx
import pytest
from ruamel.yaml import YAML

from apps.tokens.connectors import registry
from apps.tokens.connectors.hosts import is_allowed
from apps.tokens.connectors.oauth2_schema import OAUTH2, load_recipe
from apps.tokens.connectors.schema import schema
from apps.tokens.contracts import SiteConfig
from tests.integration.loginservers import EXAMPLES

REFERENCE = EXAMPLES.parent / "oauth2.md"
SNIPPETS = re.findall(r"```yaml\n(version: 1\n.*?)```", REFERENCE.read_text("utf-8"), re.DOTALL)
FILES = sorted(EXAMPLES.glob("*.yaml"))
ENTRIES = [
    pytest.param(entry, id=f"{file.stem}:{entry['slug']}")
    for file in FILES
    for entry in YAML(typ="safe").load(file.read_text(encoding="utf-8"))["sites"]
]


def test_every_login_server_has_its_example():
    assert {file.stem for file in FILES} >= {
        "devpi",
        "django_oauth_toolkit",
        "flask_appbuilder",
        "jupyter",
    }


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_example_is_valid(entry):
    registry.connector_for(entry["connector"]).validate(entry["recipe"])

    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", entry["slug"])
    assert entry["default_ttl_s"] > 0
    for account in entry["accounts"]:
        assert set(account) == {"username"}, "secrets are given separately"


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_example_may_talk_to_the_address_it_names(entry):
    base = entry["recipe"]["variables"]["base"]

    assert urlsplit(base).hostname == "127.0.0.1"
    assert is_allowed(httpx.URL(base), entry["allowed_hosts"])
    site = SiteConfig(
        slug=entry["slug"],
        connector=entry["connector"],
        recipe=entry["recipe"],
        allowed_hosts=tuple(entry["allowed_hosts"]),
    )
    assert registry.connector_for(entry["connector"]).secret_names(site)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_recipe_in_the_reference_is_valid(snippet):
    load_recipe(snippet)


def test_the_reference_has_recipes():
    assert len(SNIPPETS) >= 5


def test_the_reference_names_every_key_and_nothing_else():
    section = REFERENCE.read_text("utf-8").split("## Keys of a recipe")[1].split("###")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(
        schema(OAUTH2)["properties"]
    )
