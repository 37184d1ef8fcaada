"""The examples for cron and systemd start what the command accepts, with the same secrets."""

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


def test_every_unit_has_its_timer():
    assert len(UNITS) == 2
    assert all(unit.with_suffix(".timer").exists() for unit in UNITS)
