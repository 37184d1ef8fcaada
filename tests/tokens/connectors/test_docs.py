"""What the documents show works."""

import re
from pathlib import Path

import httpx
import pytest

from apps.tokens.connectors import functions, registry
from apps.tokens.connectors.schema import load_recipe, schema
from apps.tokens.contracts import ProbeVerdict
from apps.tokens.errors import InvalidCredentials, InvalidRecipe
from tests.tokens.connectors.fakes import FakeContext, make_site

DOCS = Path(__file__).parents[3] / "docs" / "connectors"
RECIPES = (DOCS / "recipes.md").read_text(encoding="utf-8")
PYTHON = (DOCS / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml recipe\n(.*?)^```", RECIPES, re.MULTILINE | re.DOTALL)


def test_there_are_examples():
    assert len(BLOCKS) >= 10


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_example_is_a_valid_recipe(block):
    assert load_recipe(block)["version"] == 1


def test_every_key_and_function_is_documented():
    named = set(re.findall(r"[A-Za-z_0-9]+", RECIPES))
    keys = {key for part in schema()["$defs"].values() for key in part.get("properties", {})}
    assert (
        not (keys | set(schema()["properties"]) | set(functions.FUNCTIONS))
        - named
        - {"description"}
    )


def test_the_error_shown_is_the_error_given():
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(BLOCKS[0].replace('"${xsrf}"', '"${xsrff}"'))
    (error,) = caught.value.details["errors"]
    assert error["path"] == "steps[1].form._xsrf"
    assert error["reason"] in RECIPES


@pytest.fixture
def connector(settings, tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", PYTHON, re.MULTILINE | re.DOTALL)
    (tmp_path / "mycompany_connectors.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.LATCHKEY_CONNECTORS = {"signed": "mycompany_connectors.SignedConnector"}
    assert registry.check_connectors() == []
    return registry.connector_for("signed")


def context(status):
    def site(request):
        return httpx.Response(200 if request.url.path == "/challenge" else status, text="answer")

    return FakeContext(site=make_site(recipe={"base": "https://portal.example"}), handler=site)


async def test_the_python_example_logs_in(connector):
    run = context(200)
    grant = await connector.login(run)
    assert grant.material.bearer == "answer"
    assert run.events == ["lease", "sent GET /challenge", "secret", "lease", "sent POST /login"]
    assert await connector.probe(run, grant.material) is ProbeVerdict.GOOD


async def test_the_python_example_blames_the_credentials(connector):
    with pytest.raises(InvalidCredentials):
        await connector.login(context(401))
