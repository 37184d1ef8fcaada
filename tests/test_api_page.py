"""The page of the API names every path and verb, and no other."""

import re
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from config.schema import SchemaView

ROOT = Path(__file__).parents[1]
PREFIX = "/api/v1/automation/"
VERBS = {"get", "post", "put", "patch", "delete"}


def served() -> dict[str, set[str]]:
    """Return the verbs of every path, as the schema says."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return {
        path.removeprefix(PREFIX): {verb.upper() for verb in VERBS & set(entry)}
        for path, entry in schema["paths"].items()
    }


def written() -> dict[str, set[str]]:
    """Return the verbs of every path, as the table of the page says."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = page.partition("## Every path\n")[2]
    found: dict[str, set[str]] = {}
    for paths, verbs in re.findall(r"(?m)^\| ((?:`[^`]+` ?)+) \| ([A-Z, ]+) \|", table):
        for path in re.findall(r"`([^`]+)`", paths):
            assert path not in found, f"{path} stands there twice"
            found[path] = set(verbs.split(", "))
    return found


def test_the_page_names_every_path_and_verb():
    assert written() == served()


def test_every_operation_says_what_a_refusal_looks_like():
    schema = SchemaGenerator().get_schema(request=None, public=True)
    operations = [entry[verb] for entry in schema["paths"].values() for verb in VERBS & set(entry)]
    assert "Problem" in schema["components"]["schemas"]
    assert all("application/problem+json" in str(one["responses"]["default"]) for one in operations)


@pytest.fixture
def nothing_made(monkeypatch):
    monkeypatch.setattr(SchemaView, "_made", {})


def test_the_schema_is_made_once_for_each_form_and_language(client, nothing_made, monkeypatch):
    made = []
    get_schema = SchemaGenerator.get_schema

    def noted(*args, **kwargs):
        made.append(1)
        return get_schema(*args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", noted)
    asked = [
        {"Accept": "application/vnd.oai.openapi+json"},
        {"Accept": "application/vnd.oai.openapi"},
        {"Accept": "application/vnd.oai.openapi+json", "Accept-Language": "zh-CN"},
    ]
    first = [client.get(f"{PREFIX}schema", headers=headers) for headers in asked]
    again = [client.get(f"{PREFIX}schema", headers=headers) for headers in asked]

    assert len(made) == len(asked)
    assert [one.content for one in again] == [one.content for one in first]
    assert {path.removeprefix(PREFIX) for path in first[0].json()["paths"]} == set(served())
    assert first[1].content.startswith(b"openapi: 3")
    assert first[0].content != first[2].content
    assert [one["Content-Type"] for one in again] == [one["Content-Type"] for one in first]


def test_languages_that_do_not_exist_are_not_kept(client, nothing_made):
    assert client.get(f"{PREFIX}schema?lang=xx").status_code == 200
    assert SchemaView._made == {}
