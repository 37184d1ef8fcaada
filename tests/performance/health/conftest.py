import pytest

from apps.caching import services as cache
from apps.performance.models import AlertRule, NotificationChannel
from apps.performance.services import health


@pytest.fixture(autouse=True)
def quiet(settings, monkeypatch, db):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    AlertRule.objects.all().delete()
    NotificationChannel.objects.all().delete()
    _forget()
    yield
    _forget()


def _forget():
    for kept in (health._KEYS, health._MIGRATIONS, health.RECENT):
        kept.forget()
    cache.clear_all()
