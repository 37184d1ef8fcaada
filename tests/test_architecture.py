"""What keeps the project one thing: sizes, names, and what every list and model has."""

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.urls import URLPattern, URLResolver
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.filters import OrderingFilter
from unfold.admin import ModelAdmin

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
TOP_LEVEL = {
    "manage.py", "config", "apps", "templates", "requirements", "tests", "docs", "README.md",
    "run", "pyproject.toml",
}  # fmt: skip
# Where packages come from is a matter of the machine that installs them.
PACKAGE_INDEXES = re.compile(
    r"\bpypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com|crates\.io/api"
)
# Folders of somebody's machine; what a deployment uses is under /etc, /opt, /srv or /var.
PRIVATE_FOLDERS = re.compile(r"(?<![\w.})\]])/(?:work/|root/\.|home/\w+/|Users/\w+/)")


def committed() -> list[Path]:
    """Return the files of the project: committed, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git clone")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def sources() -> list[Path]:
    """Return the Python files that the size limits are for."""
    found = [path for top in ("apps", "config") for path in (ROOT / top).rglob("*.py")]
    assert len(found) > 50
    return [ROOT / "run", *(path for path in found if "migrations" not in path.parts)]


def test_no_file_is_too_long():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}

    assert _named({path: n for path, n in sizes.items() if n > MAX_FILE_LINES}) == {}


def test_no_function_is_too_long():
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines

    assert long == {}


def test_the_top_level_holds_only_what_belongs_there():
    names = {path.relative_to(ROOT).parts[0] for path in committed()}

    assert {name for name in names if not name.startswith(".")} - TOP_LEVEL == set()


@pytest.mark.parametrize("pattern", [PACKAGE_INDEXES, PRIVATE_FOLDERS], ids=["index", "folder"])
def test_no_file_names_a_package_index_or_a_folder_of_one_machine(pattern):
    found = {}
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a compiled translation
        if match := pattern.search(text):
            found[str(path.relative_to(ROOT))] = match.group()

    assert found == {}


def test_every_requirement_says_what_it_is_for():
    bare = [
        f"{path.name}: {line}"
        for path in sorted((ROOT / "requirements").glob("*.in"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith(("#", "-r ")) and not re.search(r"\s# \w", line)
    ]

    assert bare == []


def test_every_requirement_is_pinned_with_a_hash_and_free_of_options():
    for path in (ROOT / "requirements").glob("*.in"):
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        pins = re.findall(r"(?m)^[A-Za-z0-9][^\n]*", text)
        assert pins, path
        assert [pin for pin in pins if not re.search(r"== ?[^ ]+.* \\$", pin)] == []
        assert re.findall(r"(?m)^-.*", text) == []


def test_every_model_is_in_the_admin():
    ours = [model for model in apps.get_models() if model.__module__.startswith("apps.")]
    assert ours

    registered = admin.site._registry
    assert [model._meta.label for model in ours if model not in registered] == []
    assert [
        model._meta.label for model in ours if not isinstance(registered[model], ModelAdmin)
    ] == []


def list_views() -> dict[str, type[Any]]:
    """Return the viewsets of all apps that answer with a list, by route."""
    found: dict[str, type[Any]] = {}
    for file in sorted((ROOT / "apps").glob("*/urls.py")):
        urls = importlib.import_module(f"apps.{file.parent.name}.urls")
        for route, pattern in _patterns(urls.urlpatterns, ""):
            view = getattr(pattern.callback, "cls", None)
            if view and "list" in (getattr(pattern.callback, "actions", None) or {}).values():
                found[f"{file.parent.name}: {route}"] = view
    return found


def _patterns(
    patterns: list[URLPattern | URLResolver], prefix: str
) -> Iterator[tuple[str, URLPattern]]:
    for entry in patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, route)
        else:
            yield route, entry


def test_every_list_can_be_filtered_ordered_and_paged():
    views = list_views()
    assert views

    missing = {
        route: lacks
        for route, view in views.items()
        if (lacks := [name for name, there in _abilities(view).items() if not there])
    }
    assert missing == {}


def _abilities(view: type[Any]) -> dict[str, bool]:
    filters = getattr(view, "filterset_class", None) or getattr(view, "filterset_fields", None)
    backends = view.filter_backends
    return {
        "filters": bool(filters) and any(issubclass(b, DjangoFilterBackend) for b in backends),
        "ordering": bool(getattr(view, "ordering_fields", None))
        and any(issubclass(b, OrderingFilter) for b in backends),
        "pages": view.pagination_class is not None,
    }


def _named(found: dict[Path, int]) -> dict[str, int]:
    return {str(path.relative_to(ROOT)): count for path, count in found.items()}
