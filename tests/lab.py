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
def lab_of_the_session() -> Iterator[LabClient]:
    """The one lab; ask for `lab`, which empties it first."""
    with LabProcess() as process, LabClient(process.url) as client:
        yield client


@pytest.fixture
def lab(lab_of_the_session: LabClient) -> LabClient:
    """A client of the session's lab, which is empty at the start of each test."""
    lab_of_the_session.reset()
    return lab_of_the_session
