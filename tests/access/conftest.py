"""Callers and clean process-wide state for the tests of access."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model

from apps.access import services
from apps.access.contracts import ANY_SITE, Grant, Scope
from apps.access.journal import JOURNAL
from apps.common import clock


@pytest.fixture(autouse=True)
def fresh_process(settings, tmp_path):
    """Every test starts as a process that has just begun, with a journal folder of its own."""
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"
    yield
    JOURNAL.close()


@pytest.fixture
def user(db):
    return get_user_model().objects.create_user("ann")


@pytest.fixture
def issue(user):
    """Issue a key as the operator does; all scopes and sites unless told."""

    def make(**wanted):
        wanted = {
            "user_id": user.pk,
            "name": "robot",
            "scopes": tuple(Scope),
            "grants": (Grant(site=ANY_SITE),),
            "issuer": None,
        } | wanted
        return services.issue_key(**wanted)

    return make


class Time:
    """A clock that stands still until it is told to move."""

    def __init__(self):
        self.at = clock.now()
        self.ticks = 1_000.0

    def move(self, seconds):
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds


@pytest.fixture
def time(monkeypatch):
    moment = Time()
    monkeypatch.setattr(clock, "now", lambda: moment.at)
    monkeypatch.setattr(clock, "monotonic", lambda: moment.ticks)
    return moment
