"""The examples for cron and systemd start what the command accepts, set up as the service is."""

import re
import shlex
from pathlib import Path

import pytest

from apps.performance.management.commands.optimize_performance import Command

UPKEEP = Path(__file__).parents[3] / "docs" / "deploy" / "upkeep"
UNITS = sorted(UPKEEP.glob("*.service"))
FILES = [*UNITS, UPKEEP / "latchkey.crontab"]
REQUIRED = {f"LATCHKEY_{name}_FILE" for name in ("SECRET_KEY", "KEYS", "FINGERPRINT_KEY")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_command_accepts_the_line(file):
    lines = re.findall(r"manage\.py optimize_performance ([^>\n]*)", file.read_text("utf-8"))
    assert lines

    for line in lines:
        options = (
            Command()
            .create_parser("manage.py", "optimize_performance")
            .parse_args(shlex.split(line))
        )
        assert Command()._choose(
            [flag for flag in ("health_check", "cleanup_days") if getattr(options, flag)],
            vars(options),
        )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_process_gets_the_same_secrets(file):
    given = set(re.findall(r"(?m)^(?:Environment=)?(\w+_FILE)=", file.read_text("utf-8")))

    assert given == REQUIRED | {"DATABASE_URL_FILE"}


def test_cron_knows_what_the_service_knows():
    service = re.findall(r"(?m)^([A-Z_]+=.*)$", (UPKEEP.parent / "latchkey.env").read_text("utf-8"))
    cron = re.findall(r"(?m)^([A-Z_]+=.*)$", (UPKEEP / "latchkey.crontab").read_text("utf-8"))

    # Cron mails lines, which people read.
    assert set(service) - set(cron) == {"LATCHKEY_LOG_FORMAT=json"}


def test_every_unit_has_its_timer():
    assert len(UNITS) == 2
    assert all(unit.with_suffix(".timer").exists() for unit in UNITS)
