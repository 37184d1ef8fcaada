"""What is written for people who write recipes is complete, and the ready recipes are valid."""

import re
from dataclasses import fields
from pathlib import Path

import jsonschema
import orjson
import pytest

from apps.tokens.faultlab import recipes
from apps.tokens.faultlab.app import ROUTES
from apps.tokens.faultlab.behaviour import Behaviour
from apps.tokens.faultlab.counters import Counts
from apps.tokens.faultlab.faults import FaultKind

ROOT = Path(__file__).parents[3]
URL = "http://127.0.0.1:8901"
HTTP = [
    recipes.json_recipe(URL, "s"),
    recipes.json_recipe(URL, "s", expiry=False, refresh=False),
    recipes.totp_recipe(URL, "s"),
    recipes.form_recipe(URL, "s"),
    recipes.form_recipe(URL, "s", encoding="gbk"),
]
OAUTH2 = [
    recipes.oauth2_recipe(URL, "s"),
    recipes.oauth2_recipe(URL, "s", grant="password"),
]


def schema(name: str) -> dict:
    return orjson.loads((ROOT / "apps/tokens/connectors" / name).read_bytes())


@pytest.mark.parametrize(
    ("file", "ready"),
    [("recipe_schema.json", each) for each in HTTP]
    + [("oauth2_schema.json", each) for each in OAUTH2],
)
def test_a_ready_recipe_follows_its_schema(file: str, ready: dict) -> None:
    jsonschema.validate(ready, schema(file), jsonschema.Draft202012Validator)


def test_the_lab_is_an_allowed_host_with_its_port() -> None:
    assert recipes.allowed_hosts(URL) == ("127.0.0.1:8901",)


def test_every_key_count_fault_and_path_is_documented() -> None:
    text = (ROOT / "docs/connectors/fault-lab.md").read_text(encoding="utf-8")
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    told = set(re.findall(r"`([^`]+)`", tables))
    names = {each.name for each in (*fields(Behaviour), *fields(Counts))}
    words = names | {kind.value for kind in FaultKind}
    assert words - told == set()
    assert {path for _method, path in ROUTES} - {
        each.partition("/{site}/")[2] for each in told
    } == set()
