"""The short form of `./run chaos`, with servers of its own, on the database of this test run.

Two hosts are for `./run chaos --hosts 2`: they take a minute, and rights that few have.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def chaos(*arguments: str) -> str:
    """Run it in a process of its own and return the report; fails with it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def test_everything_holds_while_processes_die():
    database = os.environ.get("LATCHKEY_TEST_DATABASE", "sqlite")
    assert "Everything held." in chaos("--database", database)
