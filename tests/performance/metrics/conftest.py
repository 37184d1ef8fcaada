"""A recorder, a clock and a client for the tests of metrics."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from apps.access import services as access
from apps.access.contracts import ANY_SITE, Grant, Scope
from apps.common import clock, measure
from apps.performance.services import exposition, storing

EVERYTHING = (Grant(site=ANY_SITE),)


def exposed():
    """Name of a sample → its labels and value."""
    found = {}
    for family in text_string_to_metric_families(exposition.text().decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


class Time:
    """A clock that stands still until it is told to move; half a minute past a full hour."""

    def __init__(self):
        self.at = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)

    def now(self):
        return self.at

    def seconds(self):
        return self.at.timestamp()

    def move(self, seconds):
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def time(monkeypatch):
    moment = Time()
    monkeypatch.setattr(clock, "now", moment.now)
    return moment


@pytest.fixture(autouse=True)
def recorder(monkeypatch, request):
    """The process' recorder, empty before and after, in the test's time if it has one."""
    recorder = measure.recorder
    recorder._reset()
    recorder._known.clear()
    recorder.dropped = 0
    sink = recorder._sink
    if "time" in request.fixturenames:
        monkeypatch.setattr(recorder, "_now", request.getfixturevalue("time").seconds)
    recorder.set_sink(storing.store)
    yield recorder
    recorder._reset()
    recorder.set_sink(sink)


@pytest.fixture(autouse=True)
def connectors(settings):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}


@pytest.fixture
def client(db):
    """Make a client with a key; all scopes and sites unless told."""

    def make(scopes=tuple(Scope), grants=EVERYTHING, name="robot"):
        user, _ = get_user_model().objects.get_or_create(username="ann")
        _, raw = access.issue_key(
            user_id=user.pk, name=name, scopes=scopes, grants=grants, issuer=None
        )
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
        return client

    return make
