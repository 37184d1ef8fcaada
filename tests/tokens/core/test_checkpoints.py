"""The cached copy of a request's progress."""

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from apps.access.authentication import KeyUser
from apps.caching import services as cache
from apps.tokens.models import TokenRequest
from apps.tokens.services import acquisition, checkpoints
from apps.tokens.services.acquisition import AcquireSpec
from apps.tokens.viewsets.requests import TokenRequestViewSet
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import claim, work


@pytest.fixture
def row():
    make_account(make_site())
    ticket = acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    return TokenRequest.objects.select_related("site").get(pk=ticket.request_id)


def status_of(row):
    client = APIClient()
    client.force_authenticate(KeyUser(pk=1, username="u"), token=caller())
    return client.get(f"/api/v1/automation/requests/{row.pk}/status")


def test_a_request_that_was_never_copied_is_a_miss(row):
    assert checkpoints.compare(row)[1] == "cache_miss"


def test_a_normal_way_never_gets_out_of_sync(row, caplog):
    claim()
    row.refresh_from_db()
    assert checkpoints.compare(row)[1] == "synced"
    TokenRequest.objects.update(status="queued")
    from apps.tokens.models import LoginAttempt

    LoginAttempt.objects.all().delete()
    work()
    row.refresh_from_db()
    present, sync = checkpoints.compare(row)
    assert (present.progress, sync) == (100, "synced")
    assert "out_of_sync" not in caplog.text


def test_a_copy_that_is_far_off_is_said_and_dropped_and_the_database_wins(row):
    cache.set("progress", str(row.pk), {"progress": 60})
    assert status_of(row).data["cache_sync_status"] == "out_of_sync"
    assert status_of(row).data["cache_sync_status"] == "cache_miss"


def test_while_the_database_is_away_the_copy_is_given(row, monkeypatch):
    claim()

    def away(self):
        raise OperationalError("connection refused")

    monkeypatch.setattr(TokenRequestViewSet, "get_object", away)
    answer = status_of(row)
    assert (answer.status_code, answer.data["cache_sync_status"]) == (200, "unknown")
    assert answer.data["progress"] == 10


def test_without_a_copy_the_outage_is_said(row, monkeypatch):
    def away(self):
        raise OperationalError("connection refused")

    monkeypatch.setattr(TokenRequestViewSet, "get_object", away)
    assert status_of(row).status_code == 503
