"""Fixtures for every test."""

import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings
from django.db import connection

from apps.access import outage
from apps.access.keycache import CACHE
from apps.caching import runtime
from apps.common import redaction
from tests.tokens import scripted


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that start processes on two of the parallel runners.

    So at most two such tests run at a time, and what a module starts is started once. What
    computes goes on beside them.
    """
    for item in items:
        for name in ("processes", "loginservers"):
            if item.get_closest_marker(name):
                whole = item.path.parent.name == "integration"
                group = f"{name}-of-the-whole" if whole else name
                item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop where pytest-xdist does not keep together what is marked so (pytest 9.2 and later)."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("This pytest-xdist groups no tests of this pytest.")


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    """Begin with nothing cached, here and in this worker's Valkey."""
    if settings.REDIS_URL:
        with redis.Redis.from_url(settings.REDIS_URL) as server:
            server.flushdb()
    yield
    runtime.stop()


@pytest.fixture(autouse=True)
def nothing_left_of_the_test_before() -> None:
    """The scripted connector numbers its tokens from one, no key is known, the database is there,
    and no earlier password is redacted.

    So many keys that were never seen before may be looked up in a second, and tests are quick.
    Passwords are kept out of answers for a minute; a test's password may be a word of the next
    test's answer.
    """
    scripted.forget()
    redaction._lingering.clear()
    CACHE.reset()
    outage.forget()


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A resolver that does not answer for `hangs.example` before the test is over."""
    over, real = threading.Event(), socket.getaddrinfo

    def hang(host: str, *args: Any, **options: Any) -> Any:
        if host == "hangs.example":
            over.wait(20)
        return real("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """The test database as other processes reach it: give it to them as `DATABASE_URL`."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()
