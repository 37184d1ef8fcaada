"""A stack for a test module, on the test database, which is emptied after the module.

Write `pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures"]` and ask for `stack`.
The tests of a module share it, so each uses sites of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import override_settings, setup_databases, teardown_databases

from tests.integration.stack import CONNECTORS, Stack, running_stack, url_of_the_test_database


@pytest.fixture(scope="module")
def module_database(django_db_setup, django_db_blocker) -> Iterator[str]:
    """The test database for a whole module, as a URL for other processes; emptied afterwards."""
    with django_db_blocker.unblock(), _test_database():
        # A reader that an earlier test left half read would show us its old snapshot for ever.
        connection.close()
        yield url_of_the_test_database()
        call_command("flush", verbosity=0, interactive=False)


@contextmanager
def _test_database() -> Iterator[None]:
    """Make the test database where no collected test asks for it with a mark."""
    if connection.settings_dict["NAME"] != dj_database_url.parse(settings.DATABASE_URL)["NAME"]:
        yield
        return
    made = setup_databases(verbosity=0, interactive=False, aliases={"default"})
    yield
    teardown_databases(made, verbosity=0)


@pytest.fixture(scope="module")
def stack_variables() -> dict[str, str]:
    """What the processes are told beside the usual; a module may have a fixture of its own."""
    return {}


@pytest.fixture(scope="module")
def stack(
    module_database: str,
    stack_variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    connectors = dict(pair.split("=") for pair in CONNECTORS.split(","))
    with (
        override_settings(LATCHKEY_CONNECTORS=connectors),
        running_stack(
            module_database, tmp_path_factory.mktemp("stack"), **stack_variables
        ) as running,
    ):
        yield running
