"""Fixtures of the history's tests."""

import pytest

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
