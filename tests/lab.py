"""The fault lab for tests: `pytest_plugins = ["tests.lab"]`, or import the fixtures.

One process a session, emptied before each test. It does not need Django or a database.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from apps.tokens.faultlab.client import LabClient

ROOT = Path(__file__).parents[1]


class LabProcess:
    """A running lab: its base URL and its process."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "apps.tokens.faultlab", "--port", "0", *arguments],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "", **(env or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        # The first line comes once the lab answers; an empty one means that it has ended.
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(f"The fault lab ended with code {self.process.wait(5)}.")
        self.url: str = json.loads(first)["url"]

    def stop(self) -> int:
        """End the process; returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextlib.contextmanager
def running_lab(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[LabProcess]:
    """Start a lab on a free port and end it afterwards."""
    process = LabProcess(*arguments, env=env)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def lab_url() -> Iterator[str]:
    """The base URL of the session's lab."""
    with running_lab() as process:
        yield process.url


@pytest.fixture
def lab(lab_url: str) -> Iterator[LabClient]:
    """A client of the session's lab, which is empty at the start of each test."""
    with LabClient(lab_url) as client:
        client.reset()
        yield client
