"""The fault lab for tests: write `pytest_plugins = ["tests.lab"]` and ask for `lab`.

One process a session, emptied before each test. It needs neither Django nor a database. To start
another one, with arguments or an environment of its own, use
`apps.tokens.faultlab.process.LabProcess`.
"""

from collections.abc import Iterator

import pytest

from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.process import LabProcess


@pytest.fixture(scope="session")
def lab_url() -> Iterator[str]:
    """The base URL of the session's lab."""
    with LabProcess() as process:
        yield process.url


@pytest.fixture
def lab(lab_url: str) -> Iterator[LabClient]:
    """A client of the session's lab, which is empty at the start of each test."""
    with LabClient(lab_url) as client:
        client.reset()
        yield client
