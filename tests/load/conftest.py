"""The rows of a load test, few of them, on the test database."""

import pytest

from tests.load import world
from tests.load.operations import Facts


@pytest.fixture
def facts(lab, transactional_db) -> Facts:
    # PostgreSQL gathers its statistics outside of transactions.
    return world.build(lab, users=1, rows=300, accounts=5)
