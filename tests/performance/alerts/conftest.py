"""Rules and readings that a test sets itself, and callers of the API."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model

from apps.access.contracts import ANY_SITE, Grant, Scope
from apps.access.journal import JOURNAL
from apps.access.services import issue_key
from apps.common.clock import database_now
from apps.performance.models import Alert, AlertRule, NotificationChannel, NotificationDelivery
from apps.performance.models.alerts import Severity
from apps.performance.services import evaluation
from apps.performance.services.alert_rules import NOTHING, Reading
from tests.performance.alerts import receivers
from tests.tokens.api.conftest import Api

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday


@pytest.fixture(autouse=True)
def quiet(settings, monkeypatch, db, tmp_path):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    AlertRule.objects.all().delete()
    NotificationChannel.objects.all().delete()
    yield
    JOURNAL.close()


class Readings:
    """What the next evaluation reads, by metric and site; nothing where nothing was set."""

    def __init__(self):
        self.values = {}
        self.asked = []

    def set(self, value, *, site="", observations=100):
        self.values[site] = Reading(value=value, observations=observations)

    def read(self, metric, *, site, window_s):
        self.asked.append((metric, site, window_s))
        return self.values.get(site, NOTHING)


class Watch:
    """Evaluates at a time of its own, which only this moves on."""

    def __init__(self):
        self.at = START
        self.readings = Readings()

    def sees(self, value, *, site="", observations=100, after_s=60):
        self.readings.set(value, site=site, observations=observations)
        return self.looks(after_s=after_s)

    def looks(self, *, after_s=60):
        self.at += timedelta(seconds=after_s)
        return evaluation.evaluate(at=self.at, make_source=lambda at, scopes: self.readings)


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def make_rule():
    def make(**fields):
        values = {
            "name": "Mean time",
            "metric": "mean_total_s",
            "direction": "above",
            "threshold": 120,
            "severity": Severity.MEDIUM,
            "clear_for_s": 0,
        }
        return AlertRule.objects.create(**values | fields)

    return make


@pytest.fixture
def make_channel():
    def make(kind="log", *, url="", secret=None, **fields):
        from apps.performance.services import notification_channels

        channel = NotificationChannel(name=fields.pop("name", kind), kind=kind, **fields)
        notification_channels.save(channel, url=url, secret=secret)
        return channel

    return make


@pytest.fixture
def opened(watch, make_rule):
    """Open an alert, which writes a notice for every channel there is; due now."""

    def make(name="Mean time"):
        make_rule(name=name)
        watch.sees(130.0)
        due_again()
        return Alert.objects.get()

    return make


@pytest.fixture
def server():
    with receivers.receiving(receivers.webhook) as found:
        yield found


def the_notice():
    return NotificationDelivery.objects.get()


def due_again():
    NotificationDelivery.objects.update(not_before=database_now() - timedelta(seconds=1))


@pytest.fixture
def api():
    def make(*grants, scopes=tuple(Scope)):
        user, _ = get_user_model().objects.get_or_create(username="robot")
        fields = {"user_id": user.pk, "name": "robot", "scopes": scopes}
        return Api(issue_key(**fields, grants=grants or (Grant(site=ANY_SITE),), issuer=None)[1])

    return make
