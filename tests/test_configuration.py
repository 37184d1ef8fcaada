"""The environment: typed, ranged, documented, and closed where a secret is missing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env, local_secrets

ROOT = Path(__file__).parents[1]
GOOD = {
    "LATCHKEY_SECRET_KEY": "Zx9-Qw7_" * 10,
    "LATCHKEY_KEYS": "k1:" + "QUFB" * 10 + "QUE=",
    "LATCHKEY_FINGERPRINT_KEY": "some-fingerprint-key",
    "LATCHKEY_ALLOWED_HOSTS": "latchkey.example",
}
LIST_KNOWN = """
import json
import config.settings.base, config.settings.local, config.settings.production
from config import env
print(json.dumps([sorted(env.known), env.numbers]))
"""


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project with this environment and nothing of ours."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> tuple[set[str], dict[str, tuple[float, str]]]:
    """The variables that any settings module reads, with either database."""
    names: set[str] = set()
    numbers: dict[str, tuple[float, str]] = {}
    folder = str(tmp_path_factory.mktemp("data"))
    for database in ("", "postgres://latchkey@localhost/latchkey"):
        variables = GOOD | {"LATCHKEY_DATA_DIR": folder}
        if database:
            variables["DATABASE_URL"] = database
        done = python("-c", LIST_KNOWN, **variables)
        assert done.returncode == 0, done.stderr
        some_names, some_numbers = json.loads(done.stdout)
        names.update(some_names)
        numbers.update(some_numbers)
    return names, numbers


@pytest.fixture(scope="module")
def documented() -> dict[str, tuple[str, str, str]]:
    """Variable → default, range, meaning, as the tables of the document have them."""
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M)
    assert len(rows) == len({name for name, *_ in rows}), "a variable is documented twice"
    return {name: (default, span, meaning) for name, default, span, meaning in rows}


def test_every_variable_is_documented(known, documented):
    assert sorted(known[0] - set(documented)) == []


def test_every_documented_variable_exists(known, documented):
    assert sorted(set(documented) - known[0]) == []


def test_documented_defaults_and_ranges_are_the_real_ones(known, documented):
    real = {name: (f"{default:.12g}", span) for name, (default, span) in known[1].items()}
    wrong = {name: told for name, told in real.items() if documented[name][:2] != told}
    assert wrong == {}


@pytest.mark.parametrize(
    "missing", ["LATCHKEY_SECRET_KEY", "LATCHKEY_KEYS", "LATCHKEY_FINGERPRINT_KEY"]
)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_production_refuses_to_start_without_a_secret(missing, value):
    variables = {name: text for name, text in GOOD.items() if name != missing}
    if value is not None:
        variables[missing] = value
    done = python("-c", "import config.settings.production", **variables)
    assert done.returncode != 0
    assert f"Set {missing} (or {missing}_FILE)" in done.stderr


def test_production_refuses_a_short_secret_key():
    done = python("-c", "import config.settings.production", **GOOD | {"LATCHKEY_SECRET_KEY": "x"})
    assert "at least 50 characters" in done.stderr


def test_production_passes_the_deployment_checks(tmp_path):
    done = python(
        "manage.py",
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        DJANGO_SETTINGS_MODULE="config.settings.production",
        LATCHKEY_DATA_DIR=str(tmp_path / "data"),
        **GOOD,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def variable(monkeypatch):
    """Sets LATCHKEY_X, or its file, for the readers below."""
    monkeypatch.setattr(env, "known", set())
    monkeypatch.setattr(env, "numbers", {})
    for name in ("LATCHKEY_X", "LATCHKEY_X_FILE", "REDIS_URL", "REDIS_HOST", "REDIS_PORT"):
        monkeypatch.delenv(name, raising=False)

    def put(value: str, name: str = "LATCHKEY_X") -> None:
        monkeypatch.setenv(name, value)

    return put


def test_a_file_holds_the_value(variable, tmp_path):
    (tmp_path / "secret").write_text(" hunter2\n")
    variable(str(tmp_path / "secret"), "LATCHKEY_X_FILE")
    assert env.text("LATCHKEY_X") == "hunter2"


def test_an_empty_variable_leaves_it_to_the_file(variable, tmp_path):
    (tmp_path / "secret").write_text("from file")
    variable("")
    variable(str(tmp_path / "secret"), "LATCHKEY_X_FILE")
    assert env.text("LATCHKEY_X") == "from file"


def test_a_variable_comes_before_its_file(variable):
    variable("direct")
    variable("/nowhere", "LATCHKEY_X_FILE")
    assert env.text("LATCHKEY_X") == "direct"


def test_a_file_that_is_not_there_is_named(variable):
    variable("/nowhere/x", "LATCHKEY_X_FILE")
    with pytest.raises(ImproperlyConfigured, match=r"LATCHKEY_X_FILE cannot be read: .*/nowhere/x"):
        env.text("LATCHKEY_X", "default")


def test_a_file_that_is_no_text_does_not_show_its_bytes(variable, tmp_path):
    (tmp_path / "secret").write_bytes(b"hunter2\xff")
    variable(str(tmp_path / "secret"), "LATCHKEY_X_FILE")
    with pytest.raises(ImproperlyConfigured, match="not UTF-8") as caught:
        env.text("LATCHKEY_X")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["0", "11", "nan", "inf", "-inf", "1e999", "hunter2", "1 2"])
def test_a_number_outside_its_range_is_refused(variable, value):
    variable(value)
    with pytest.raises(ImproperlyConfigured, match="LATCHKEY_X") as caught:
        env.number("LATCHKEY_X", 5, minimum=1, maximum=10)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10), ("2.5", 2.5), ("", 5)])
def test_a_number_inside_its_range_is_taken(variable, value, number):
    variable(value)
    assert env.number("LATCHKEY_X", 5, minimum=1, maximum=10) == number


@pytest.mark.parametrize("value", ["1.5", "nan", "inf"])
def test_an_integer_is_whole(variable, value):
    variable(value)
    with pytest.raises(ImproperlyConfigured):
        env.integer("LATCHKEY_X", 1)


def test_a_large_range_is_told_in_full(variable):
    variable("99999999")
    with pytest.raises(ImproperlyConfigured, match="is 99999999; allowed: 1 to 16777216"):
        env.integer("LATCHKEY_X", 1, minimum=1, maximum=16_777_216)


@pytest.mark.parametrize(
    ("value", "truth"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("", False)]
)
def test_a_flag_is_yes_or_no(variable, value, truth):
    variable(value)
    assert env.flag("LATCHKEY_X", default=not truth) is truth


def test_another_flag_is_refused_without_repeating_it(variable):
    variable("hunter2")
    with pytest.raises(ImproperlyConfigured) as caught:
        env.flag("LATCHKEY_X", default=False)
    assert "hunter2" not in str(caught.value)


def test_a_choice_is_one_of_the_words(variable):
    variable("hunter2")
    with pytest.raises(ImproperlyConfigured, match="one of: a, b") as caught:
        env.choice("LATCHKEY_X", "a", allowed=["b", "a"])
    assert "hunter2" not in str(caught.value)


def test_words_drop_empty_items(variable):
    variable(" a, ,b,")
    assert env.words("LATCHKEY_X") == ["a", "b"]


def test_pairs_are_key_and_value(variable):
    variable("a=1, b=x=y")
    assert env.pairs("LATCHKEY_X") == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize("value", ["hunter2", "=hunter2", "hunter2="])
def test_a_broken_pair_is_refused_without_repeating_it(variable, value):
    variable(value)
    with pytest.raises(ImproperlyConfigured) as caught:
        env.pairs("LATCHKEY_X")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, ""),
        ({"REDIS_URL": "redis://a/1", "REDIS_HOST": "b"}, "redis://a/1"),
        ({"REDIS_HOST": "b"}, "redis://b:6379/0"),
        (
            {"REDIS_HOST": "b", "REDIS_PORT": "7", "REDIS_DB": "2", "REDIS_PASSWORD": "p@/:#"},
            "redis://:p%40%2F%3A%23@b:7/2",
        ),
    ],
)
def test_redis_is_one_url_or_its_parts(variable, variables, url):
    for name, value in variables.items():
        variable(value, name)
    assert env.redis_url() == url


@pytest.fixture
def no_secrets(monkeypatch):
    for name in local_secrets._MAKERS:
        monkeypatch.setenv(name, "x")  # so that monkeypatch restores what is there now
        monkeypatch.delenv(name)
        monkeypatch.setenv(f"{name}_FILE", "x")
        monkeypatch.delenv(f"{name}_FILE")


def test_local_secrets_are_made_once_and_private(no_secrets, monkeypatch, tmp_path):
    local_secrets.provide(tmp_path)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    for name in local_secrets._MAKERS:
        monkeypatch.delenv(f"{name}_FILE")
    local_secrets.provide(tmp_path)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == first
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_given_secret_is_not_made(no_secrets, monkeypatch, tmp_path):
    monkeypatch.setenv("LATCHKEY_KEYS", "given")
    local_secrets.provide(tmp_path)
    assert not (tmp_path / "secrets" / "latchkey_keys").exists()


def test_processes_that_start_together_agree_on_one_secret(tmp_path):
    path = tmp_path / "secrets" / "key"

    def make_while_another_process_is_faster() -> str:
        path.write_text("theirs")
        return "ours"

    local_secrets._once(path, make_while_another_process_is_faster)
    assert path.read_text() == "theirs"
    assert [file.name for file in path.parent.iterdir()] == ["key"]
