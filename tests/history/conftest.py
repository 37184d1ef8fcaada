"""Fixtures of the history's tests."""

import pytest


@pytest.fixture(autouse=True)
def patient_locks(monkeypatch):
    """Wait for autovacuum, which gives way after a second; a test is in nobody's way."""
    monkeypatch.setattr("apps.history.partitions.LOCK_TIMEOUT_MS", 30_000)
