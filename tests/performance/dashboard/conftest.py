from datetime import timedelta

import pytest

from apps.performance.services import resources


@pytest.fixture(autouse=True)
def connectors(settings):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}


@pytest.fixture
def patient(monkeypatch):
    """Samples are fresh for as long as the test takes."""
    monkeypatch.setattr(resources, "FRESH", timedelta(minutes=10))
