import pytest

from tests.tokens import scripted


@pytest.fixture(autouse=True)
def core(settings, monkeypatch, db):
    """A scripted connector, an empty cache, and no task queue."""
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, **_: call())
    scripted.forget()
