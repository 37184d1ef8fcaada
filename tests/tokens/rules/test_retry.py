"""Trying again: when, with which account, how often, and what becomes of what never works."""

import asyncio
import random
import statistics
import time

import pytest
from django.contrib import admin
from django.test import RequestFactory

from apps.common.errors import BusinessRuleViolated
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.errors import LoginTimedOut
from apps.tokens.models import AdmissionLimits, LoginAttempt, TokenRequest
from apps.tokens.services import completion, execution, requests
from apps.tokens.services.requests import Asker
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import ago, ask, fail, no_wait, row, succeed
from tests.tokens.scripted import ScriptedConnector
from tests.tokens.work import claim, work


@pytest.fixture
def site():
    found = make_site()
    make_account(found)
    return found


# When --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "ceiling"), [(1, 2), (2, 4), (5, 32), (6, 60), (40, 60)])
def test_the_back_off_is_spread_over_all_of_zero_to_its_ceiling(attempts, ceiling, monkeypatch):
    monkeypatch.setattr(completion, "random", random)
    waits = [completion.backoff_s(attempts) for _ in range(2000)]
    assert 0 <= min(waits) < 0.1 * ceiling
    assert 0.9 * ceiling < max(waits) <= ceiling
    assert statistics.mean(waits) == pytest.approx(ceiling / 2, rel=0.1)


def test_a_retry_after_is_a_floor():
    assert completion.backoff_s(1, 500) == 500
    assert all(completion.backoff_s(1, 0.5) >= 0.5 for _ in range(100))


def test_nothing_is_retried_before_its_time(site, monkeypatch):
    monkeypatch.setattr(completion.random, "uniform", lambda low, high: high)
    pk = ask()
    fail("NetworkFailure")
    wait_s = (row(pk).not_before - LoginAttempt.objects.get().finished_at).total_seconds()
    assert wait_s == 2
    assert claim() is None
    no_wait()
    assert claim()


def test_a_sites_retry_after_is_honoured(site):
    pk = ask()
    fail("SiteUnavailable", retry_after_s=120)
    wait_s = (row(pk).not_before - LoginAttempt.objects.get().finished_at).total_seconds()
    assert 120 <= wait_s <= 121


# With whom ---------------------------------------------------------------------------------


def test_a_retry_takes_another_eligible_account_where_there_is_one(site):
    make_account(site, "bob")
    ask()
    first = fail("NetworkFailure")
    no_wait()
    assert claim().credentials.username != first.credentials.username


def test_a_retry_takes_the_same_account_where_there_is_no_other(site):
    ask()
    fail("NetworkFailure")
    no_wait()
    assert claim().credentials.username == "alice"


def test_a_retry_passes_over_an_account_that_cannot_log_in(site):
    make_account(site, "bob", enabled=False)
    ask()
    fail("NetworkFailure")
    no_wait()
    assert claim().credentials.username == "alice"


def test_a_named_account_is_never_swapped(site):
    make_account(site, "bob", preferred=True)
    ask(account="alice")
    fail("NetworkFailure")
    no_wait()
    assert claim().credentials.username == "alice"


def test_an_accounts_own_fault_goes_on_with_the_next_one_at_once(site):
    make_account(site, "bob")
    ask()
    fail("AccountLocked")
    assert claim()


# The deadline ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleeps", "shields"])
def test_a_hanging_login_ends_at_its_deadline(monkeypatch, how):
    ended = []

    async def hang(self, context):
        await context.sending_secret()
        try:
            await (asyncio.sleep(60) if how == "sleeps" else asyncio.shield(asyncio.sleep(60)))
        finally:
            ended.append(how)

    monkeypatch.setattr(ScriptedConnector, "login", hang)
    make_account(make_site(login_timeout_s=1))
    pk = ask()
    begun = time.monotonic()
    work(limit=1)
    assert time.monotonic() - begun < 30
    assert ended == [how]
    assert (row(pk).error_code, LoginAttempt.objects.get().outcome) == ("login_timeout", "failed")


def test_a_login_that_will_not_be_cancelled_ends_all_the_same_and_sends_no_more(monkeypatch):
    monkeypatch.setattr(execution, "CANCEL_GRACE_S", 0.05)
    sent = []

    async def cling(self, context):
        await context.sending_secret()
        while len(sent) < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                sent.append(await refused(context))

    async def refused(context):
        try:
            await context.check_lease()
        except LoginTimedOut:
            return "nothing"
        return "something"

    monkeypatch.setattr(ScriptedConnector, "login", cling)
    make_account(make_site(login_timeout_s=1))
    pk = ask()
    work(limit=1)
    assert (row(pk).error_code, LoginAttempt.objects.get().outcome) == ("login_timeout", "failed")
    assert set(sent) == {"nothing"}


# Giving up ---------------------------------------------------------------------------------


def dead(error="NetworkFailure"):
    AdmissionLimits.objects.get_or_create(pk=1, defaults={"max_attempts": 2})
    pk = ask()
    for _ in range(2):
        no_wait()
        fail(error, sent=False)
    assert row(pk).status == "dead"
    return pk


def test_after_the_last_attempt_it_is_a_dead_letter_with_its_last_error(site):
    pk = dead()
    found = row(pk)
    assert (found.attempts, found.error_code) == (2, "network_error")
    assert TokenAcquisitionHistory.objects.get(request_id=pk).status == "network_error"


def test_a_dead_letter_is_not_tried_again_by_itself(site):
    dead()
    no_wait()
    assert claim() is None


def test_requeueing_makes_a_new_request_and_keeps_the_dead_one(site):
    pk = dead()
    new = requests.requeue(row(pk), asker=Asker(kind="key", id="ann", name="ann"))
    assert new != pk
    assert row(pk).status == "dead"
    succeed()
    assert row(new).status == "done"


def test_requeueing_twice_joins(site):
    pk = dead()
    first = requests.requeue(row(pk), asker=None)
    assert requests.requeue(row(pk), asker=None) == first


@pytest.mark.parametrize("status", ["queued", "running", "paused", "done"])
def test_only_what_ended_without_a_token_is_requeued(site, status):
    pk = ask()
    TokenRequest.objects.update(status=status)
    with pytest.raises(BusinessRuleViolated):
        requests.requeue(row(pk), asker=None)


def test_requeueing_over_the_api(site, api):
    pk = dead()
    found = api().post(f"requests/{pk}/requeue")
    assert found.status == 202
    assert row(found.json["request_id"]).status == "queued"


def test_requeueing_over_the_api_needs_the_operators_scope(site, api):
    from apps.access.contracts import Scope

    pk = dead()
    assert api(scopes=(Scope.REQUESTS_READ,)).post(f"requests/{pk}/requeue").status == 403
    assert TokenRequest.objects.count() == 1


def test_requeueing_in_the_admin(site, admin_user, monkeypatch):
    told = []
    for level in ("success", "warning"):
        monkeypatch.setattr(f"apps.tokens.admin.rows.messages.{level}", lambda _, m: told.append(m))
    dead()
    request = RequestFactory().post("/")
    request.user = admin_user
    page = admin.site._registry[TokenRequest]
    page.requeue_requests(request, TokenRequest.objects.all())
    assert TokenRequest.objects.filter(status="queued").count() == 1
    assert told == ["1 requests requeued."]


# What goes wrong while a result is written --------------------------------------------------


def test_a_request_that_has_ended_is_not_brought_back_by_a_failure(site):
    pk = ask()
    claimed = claim()
    TokenRequest.objects.filter(pk=pk).update(status="cancelled", finished_at=ago())
    fail("NetworkFailure", claimed)
    assert row(pk).status == "cancelled"
