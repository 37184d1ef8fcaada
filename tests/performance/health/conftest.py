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
    health._KEYS.forget()
    health._MIGRATIONS.forget()
    cache.clear_all()
    yield
    health._KEYS.forget()
    health._MIGRATIONS.forget()
    cache.clear_all()
