"""Who could run and was not woken; who is silent and still holds a permit."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.access.authentication import KeyUser
from apps.tokens.models import RecoveryAction, Site, TokenRequest, WorkerProcess
from apps.tokens.services import acquisition, recovery
from apps.tokens.services.acquisition import AcquireSpec
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import claim


@pytest.fixture
def waiting(monkeypatch):
    hinted = []
    monkeypatch.setattr("apps.tokens.services.hints.send_to", hinted.append)
    make_account(make_site())
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    long_ago = timezone.now() - timedelta(seconds=30)
    TokenRequest.objects.update(created_at=long_ago, not_before=long_ago, order_at=long_ago)
    hinted.clear()
    return hinted


def test_a_waiter_that_only_lacks_a_worker_is_hinted_and_noted_once_a_minute(waiting):
    assert recovery.wake_stale_waiters() == 1
    assert recovery.wake_stale_waiters() == 1
    assert waiting == ["default", "default"]
    assert RecoveryAction.objects.get().kind == "stale_waiter"


def test_a_waiter_that_has_a_reason_to_wait_is_left_alone(waiting):
    Site.objects.update(paused=True)
    assert recovery.wake_stale_waiters() == 0
    assert not RecoveryAction.objects.exists()


def test_a_silent_workers_login_is_listed_as_suspect(waiting):
    claim()
    assert not recovery.suspects().exists()
    WorkerProcess.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    client = APIClient()
    client.force_authenticate(KeyUser(pk=1, username="u"), token=caller())
    answer = client.get("/api/v1/automation/repairs/suspects")
    assert (answer.data["count"], answer.data["results"][0]["account"]) == (1, "alice")
