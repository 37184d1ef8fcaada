import pytest


@pytest.fixture(autouse=True)
def connectors(settings):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
