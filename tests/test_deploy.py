"""The example files for a production installation fit the product they start."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands
from ruamel.yaml import YAML

from apps.tokens.services.supervisor import Supervisor

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
SETTERS = [DEPLOY / "latchkey.env", DEPLOY / "compose.yaml", *UNITS]
VARIABLE = re.compile(r"\b((?:LATCHKEY|REDIS|DATABASE)_[A-Z_0-9]+?)(?:_FILE)?\s*[=:]")


def compose() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    return content


def unit(name: str) -> dict[str, str]:
    """Return the last value of each key of a unit."""
    text = (DEPLOY / f"latchkey-{name}.service").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", text))


@pytest.mark.parametrize("file", SETTERS, ids=lambda file: file.name)
def test_every_variable_that_is_set_is_documented(file):
    used = set(VARIABLE.findall(file.read_text(encoding="utf-8")))
    documented = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert used
    assert [name for name in sorted(used) if f"`{name}`" not in documented] == []


def test_all_processes_get_the_same_secrets():
    services = compose()["services"]
    given = [
        {key for key in services[name]["environment"] if key.endswith("_FILE")}
        for name in ("web", "workers", "prepare")
    ]
    units = [set(re.findall(r"Environment=(\w+_FILE)", file.read_text())) for file in UNITS]

    required = {f"LATCHKEY_{name}_FILE" for name in ("SECRET_KEY", "KEYS", "FINGERPRINT_KEY")}
    assert len(units) == 2
    for secrets in (*given, *units):
        assert secrets == required | {"DATABASE_URL_FILE"}
    assert set(services["web"]["secrets"]) <= set(compose()["secrets"])


def test_running_logins_may_finish_before_anything_is_killed():
    grace_s = Supervisor(say=str).grace_s
    workers = unit("workers")

    assert int(workers["TimeoutStopSec"]) > grace_s
    assert workers["KillMode"] == "mixed", "SIGTERM is for the supervisor alone"
    stop = compose()["services"]["workers"]["stop_grace_period"]
    assert int(stop.removesuffix("s")) > grace_s


def test_the_proxy_waits_and_reads_as_long_as_the_service():
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    found = dict(re.findall(r"(proxy_read_timeout|client_max_body_size)\s+(\d+)", text))

    assert int(found["proxy_read_timeout"]) > settings.LATCHKEY_MAX_WAIT_S
    assert int(found["client_max_body_size"]) * 1024 == settings.LATCHKEY_MAX_BODY_BYTES
    header, of_nginx = settings_of_production_proxy()
    assert re.search(rf"proxy_set_header {header} {re.escape(of_nginx)};", text)


def settings_of_production_proxy() -> tuple[str, str]:
    """Return the header by which production knows HTTPS, and what nginx must put there."""
    text = (ROOT / "config" / "settings" / "production.py").read_text(encoding="utf-8")
    key = re.findall(r'SECURE_PROXY_SSL_HEADER = \("HTTP_(\w+)"', text)
    return key[0].replace("_", "-").title(), "$scheme"


def test_commands_of_the_examples_exist():
    texts = [file.read_text(encoding="utf-8") for file in (*UNITS, DEPLOY / "compose.yaml")]
    used = {name for text in texts for name in re.findall(r"manage\.py,?\s+(\w+)", text)}

    assert {"workers", "migrate", "collectstatic"} <= used
    assert used <= set(get_commands())


def test_the_image_holds_all_that_a_start_needs():
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in kept if line.startswith("!")}

    assert "*" in kept
    assert {"manage.py", "config", "apps", "templates", "requirements/production.txt"} <= allowed
