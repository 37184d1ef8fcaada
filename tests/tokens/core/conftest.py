from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def core(settings, monkeypatch, db):
    """A scripted connector, no task queue, and retries only when a test says so."""
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, **_: call())
    # A retry that drew a wait of nothing would start in the middle of a test.
    long_wait = SimpleNamespace(uniform=lambda low, high: high + 60)
    monkeypatch.setattr("apps.tokens.services.completion.random", long_wait)
