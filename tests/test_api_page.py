"""The page of the API names every path and verb, and no other."""

import re
from pathlib import Path

from drf_spectacular.generators import SchemaGenerator

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
