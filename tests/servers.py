"""Pytest plugin: choose the database of the run, and start the servers it needs.

`LATCHKEY_TEST_DATABASE=sqlite` (the default) runs on a SQLite file without Redis;
`LATCHKEY_TEST_DATABASE=postgres` on a real PostgreSQL and a real Valkey from wheels.
It is loaded with `-p` because a conftest is too late: pytest-django has read the settings by then.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.embedded import embedded_postgres, embedded_valkey

CHOICE = "LATCHKEY_TEST_DATABASE"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    stack = ExitStack()
    early_config.add_cleanup(stack.close)
    folder = tempfile.mkdtemp(prefix="latchkey-test-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        _forget_settings_of_the_machine()
        os.environ.update(_start_servers(stack, Path(folder)))
    elif os.environ["REDIS_URL"]:
        os.environ["REDIS_URL"] = _database_of(worker, os.environ["REDIS_URL"])
    os.environ["LATCHKEY_DATA_DIR"] = folder
    return (yield)


def pytest_report_header() -> str:
    return (
        f"servers: {os.environ['DATABASE_URL']} {'and Valkey' if os.environ['REDIS_URL'] else ''}"
    )


def _forget_settings_of_the_machine() -> None:
    for name in [*os.environ]:
        if name.startswith(("LATCHKEY_", "REDIS_", "Q_CLUSTER", "OTEL_")) and name != CHOICE:
            del os.environ[name]


def _start_servers(stack: ExitStack, folder: Path) -> dict[str, str]:
    choice = os.environ.get(CHOICE, "sqlite")
    if choice == "sqlite":
        return {"DATABASE_URL": f"sqlite:///{folder / 'unused.sqlite3'}", "REDIS_URL": ""}
    if choice == "postgres":
        return {
            "DATABASE_URL": stack.enter_context(embedded_postgres()),
            "REDIS_URL": stack.enter_context(embedded_valkey()),
            # A busy machine is no slow Redis; tests of slowness set a time-out of their own.
            "LATCHKEY_REDIS_TIMEOUT_S": "5",
        }
    raise pytest.UsageError(f"{CHOICE} must be sqlite or postgres.")


def _database_of(worker: str, url: str) -> str:
    """Give each xdist worker a database of its own, so that one may empty it under no other."""
    return urlsplit(url)._replace(path=f"/{int(worker.removeprefix('gw')) + 1}").geturl()
