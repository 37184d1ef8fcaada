"""Fixtures of the history's tests."""

import pytest
from django.db import connection, connections

from apps.history import partitions


@pytest.fixture(autouse=True)
def patient_locks(monkeypatch):
    """Wait for autovacuum, which gives way after a second; a test is in nobody's way."""
    monkeypatch.setattr("apps.history.partitions.LOCK_TIMEOUT_MS", 30_000)


@pytest.fixture
def no_month_yet():
    """Begin without a partition of a month; tests before this one may have left some."""
    for month in partitions.existing():
        partitions.drop(month, only_if=None)


@pytest.fixture
def reader(no_month_yet, monkeypatch):
    """A connection of somebody who goes on reading, and a patience as short as in production."""
    if connection.vendor != "postgresql":
        pytest.skip("partitions are of PostgreSQL")
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT_MS", 20)
    other = connections.create_connection("default")
    other.set_autocommit(False)
    yield other
    other.rollback()
    other.close()
