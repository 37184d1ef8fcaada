"""Permits, budgets, order: who may start now, and that nobody waits behind a stranger."""

from datetime import timedelta

import pytest

from apps.tokens.models import AdmissionLimits, LoginAttempt, TokenRequest
from apps.tokens.models.requests import Queue
from apps.tokens.services import requests
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import (
    ago,
    ahead,
    ask,
    ask_batch,
    claim_names,
    codes,
    fail,
    refreshed,
    row,
    set_account,
    set_site,
    succeed,
)
from tests.tokens.work import claim


def many(site, n, prefix="u"):
    return [make_account(site, f"{prefix}{i:02}") for i in range(n)]


def spend(account, *started):
    """Write logins that were made then into the record."""
    from apps.tokens.services.owner import Owner

    owner = Owner.take(cluster="default")
    pk = ask_batch(account, any_account=True)
    for at in started:
        LoginAttempt.objects.create(
            request_id=pk,
            site=account.site,
            account=account,
            owner_id=owner.id,
            fence=1,
            credential_version=1,
            concurrency_at_start=1,
            started_at=at,
            finished_at=at,
            deadline=at,
            outcome="succeeded",
        )
    TokenRequest.objects.filter(pk=pk).delete() if not started else TokenRequest.objects.filter(
        pk=pk
    ).update(status="done")


# Budgets -----------------------------------------------------------------------------------


def test_an_account_past_its_budget_waits_until_its_oldest_login_leaves_the_window():
    site = make_site(budget_per_account=2, budget_window_s=600)
    account = make_account(site)
    oldest = ago(seconds=500)
    spend(account, oldest, ago(seconds=100))
    pk = ask(account="alice")
    assert claim() is None
    assert row(pk).not_before == oldest + timedelta(seconds=600)


def test_an_account_under_its_budget_logs_in():
    site = make_site(budget_per_account=2, budget_window_s=600)
    account = make_account(site)
    spend(account, ago(seconds=601), ago(seconds=100))
    ask(account="alice")
    assert claim()


def test_one_accounts_spent_budget_leaves_the_others():
    site = make_site(budget_per_account=1)
    spend(make_account(site, "alice", preferred=True), ago(seconds=5))
    make_account(site, "bob")
    ask()
    assert claim_names() == [("court_zxfw", "bob")]


def test_a_sites_spent_budget_stops_the_site_and_no_other():
    site, other = make_site(budget_per_site=2), make_site("other")
    alice = make_account(site)
    spend(alice, ago(seconds=50), ago(seconds=40))
    make_account(site, "bob")
    make_account(other)
    pk = ask(account="bob")
    ask("other")
    assert claim_names() == [("other", "alice")]
    assert codes(pk) == ["site_budget_spent"]


def test_a_raised_budget_counts_at_once_for_whoever_was_set_aside():
    from apps.tokens.services import sites

    site = make_site(budget_per_account=1)
    account = make_account(site)
    spend(account, ago(seconds=5))
    ask(account="alice")
    assert claim() is None
    site.budget_per_account = 2
    sites.save(site)
    assert claim()


def test_failed_logins_spend_the_budget_too():
    make_account(make_site(budget_per_account=1))
    ask(account="alice")
    fail("SiteUnavailable")
    TokenRequest.objects.update(not_before=ago(seconds=1))
    assert claim() is None


# Limits ------------------------------------------------------------------------------------


def test_an_edited_limit_of_a_site_holds_from_the_next_admission():
    site = make_site(max_concurrent=1)
    for account in many(site, 3):
        ask(account=account.username)
    assert len(claim_names()) == 1
    set_site(site, max_concurrent=3)
    assert len(claim_names()) == 2
    LoginAttempt.objects.update(outcome="lost")
    set_site(site, max_concurrent=1)
    TokenRequest.objects.update(status="queued")
    assert len(claim_names()) == 1


def test_lowering_a_limit_below_what_runs_stops_nothing_and_admits_nothing():
    site = make_site(max_concurrent=3)
    accounts = many(site, 3)
    for account in accounts[:2]:
        ask(account=account.username)
    held = [claim(), claim()]
    set_site(site, max_concurrent=1)
    ask(account="u02")
    assert claim() is None
    succeed(held[0])
    assert claim() is None
    succeed(held[1])
    assert claim()


def test_the_limits_edited_over_the_api_hold_at_once(api):
    site = make_site(max_concurrent=10)
    for account in many(site, 3):
        ask(account=account.username)
    assert api().patch("limits", {"max_concurrent": 1}).status == 200
    assert len(claim_names()) == 1


@pytest.mark.parametrize("body", [{"max_concurrent": 0}, {"lease_s": 1}, {"in_doubt_resends": 2}])
def test_limits_that_make_no_sense_are_refused(api, body):
    assert api().patch("limits", body).status == 400
    assert not AdmissionLimits.objects.filter(**body).exists()


def test_a_login_that_waits_for_a_person_keeps_its_account_and_gives_back_the_rest():
    site = make_site(max_concurrent=1)
    many(site, 2)
    pk = ask(account="u00")
    claim()
    TokenRequest.objects.filter(pk=pk).update(status="paused")
    ask(account="u01")
    ask()
    assert claim_names() == [("court_zxfw", "u01")]


# The background's share --------------------------------------------------------------------


def test_background_work_leaves_a_permit_of_its_site_to_interactive_work():
    AdmissionLimits.objects.create(pk=1, max_concurrent=10, max_concurrent_per_site=3)
    site = make_site()
    waiting = [ask_batch(account) for account in many(site, 4)]
    assert len(claim_names()) == 2
    assert codes(waiting[-1]) == ["reserved_for_interactive"]
    make_account(site, "person")
    ask(account="person")
    assert claim_names() == [("court_zxfw", "person")]


def test_a_limit_of_one_lets_background_work_run():
    AdmissionLimits.objects.create(pk=1, max_concurrent=1, reserved_for_interactive=1)
    ask_batch(make_account(make_site()))
    assert claim()


def test_without_a_reserve_the_background_takes_everything():
    AdmissionLimits.objects.create(pk=1, max_concurrent=3, reserved_for_interactive=0)
    for n in range(3):
        ask_batch(make_account(make_site(f"s{n}")))
    assert len(claim_names()) == 3


def test_a_person_who_joins_a_batch_request_gets_the_permit_kept_for_persons():
    AdmissionLimits.objects.create(pk=1, max_concurrent=2)
    ask_batch(make_account(make_site("busy")))
    assert claim()
    account = make_account(make_site())
    pk = ask_batch(account)
    assert claim() is None
    assert ask(account="alice") == pk
    assert claim_names() == [("court_zxfw", "alice")]


def test_a_person_who_joins_a_batch_request_is_served_by_the_cluster_for_persons(settings):
    settings.LATCHKEY_QUEUES = {"batch": "night"}
    account = make_account(make_site())
    ask_batch(account)
    ask(account="alice")
    assert claim("default")


def test_a_batch_that_joins_a_persons_request_does_not_slow_it():
    account = make_account(make_site())
    pk = ask(account="alice")
    before = row(pk)
    assert ask_batch(account) == pk
    assert (row(pk).queue, row(pk).order_at) == (before.queue, before.order_at)


# Order -------------------------------------------------------------------------------------


def test_within_a_site_the_order_is_that_of_asking_plus_the_handicap():
    site = make_site(max_concurrent=9)
    AdmissionLimits.objects.create(pk=1, max_concurrent=9, reserved_for_interactive=0)
    names = ("batch", "maintenance", "refresh", "person")
    queues = (Queue.BATCH, Queue.MAINTENANCE, Queue.REFRESH, Queue.INTERACTIVE)
    for name, queue in zip(names, queues, strict=True):
        ask_batch(make_account(site, name), queue=queue)
    assert [name for _, name in claim_names()] == ["person", "refresh", "maintenance", "batch"]


@pytest.mark.parametrize(("waited_s", "first"), [(290, "person"), (310, "batch")])
def test_a_batch_request_that_has_waited_its_handicap_goes_before_a_fresh_person(waited_s, first):
    site = make_site(max_concurrent=1)
    pk = ask_batch(make_account(site, "batch"))
    TokenRequest.objects.filter(pk=pk).update(
        order_at=row(pk).order_at - timedelta(seconds=waited_s)
    )
    make_account(site, "person")
    ask(account="person")
    assert claim_names() == [("court_zxfw", first)]


def test_across_sites_the_oldest_head_goes_first():
    AdmissionLimits.objects.create(pk=1, max_concurrent=9, max_concurrent_per_site=1)
    for slug in ("c", "a", "b"):
        site = make_site(slug)
        for account in many(site, 2):
            ask(slug, account.username)
    assert [slug for slug, _ in claim_names()] == ["c", "a", "b"]


def test_a_retried_request_keeps_its_place():
    site = make_site(max_concurrent=1)
    many(site, 2)
    ask(account="u00")
    ask(account="u01")
    fail("NetworkFailure")
    TokenRequest.objects.update(not_before=ago(seconds=1))
    assert claim_names() == [("court_zxfw", "u00")]


# Nobody waits behind a stranger ------------------------------------------------------------

HINDRANCES = {
    "saturated": {"max_concurrent": 1},
    "paused": {"paused": True},
    "closed": {"closed_hours": [{"from": "00:00", "to": "24:00"}]},
    "cooling": {"cooldown_until": ahead(hours=1)},
    "disabled": {"enabled": False},
}


@pytest.mark.parametrize("fields", HINDRANCES.values(), ids=HINDRANCES.keys())
def test_a_hindered_site_with_a_long_queue_never_delays_another(fields):
    held = make_site("held")
    for account in many(held, 30):
        ask("held", account.username)
    set_site(held, **fields)
    if "max_concurrent" in fields:
        assert claim_names() == [("held", "u00")]
    make_account(make_site("free"))
    ask("free")
    assert claim_names() == [("free", "alice")]


ACCOUNT_HINDRANCES = {
    "cooling": {"cooldown_until": ahead(hours=1), "cooldown_reason": "account_locked"},
    "disabled": {"enabled": False},
    "needs a person": {"needs_action": "accept the terms"},
}


@pytest.mark.parametrize("fields", ACCOUNT_HINDRANCES.values(), ids=ACCOUNT_HINDRANCES.keys())
def test_hindered_accounts_never_delay_another_of_their_site(fields):
    site = make_site()
    for account in many(site, 30):
        ask(account=account.username)
        set_account(account, **fields)
    make_account(site, "free")
    ask(account="free")
    assert claim_names() == [("court_zxfw", "free")]


def test_a_busy_account_delays_no_other():
    site = make_site(max_concurrent=5)
    many(site, 2)
    ask(account="u00")
    claim()
    ask(account="u00", force=True)
    for _ in range(2):
        ask_batch(site.accounts.get(username="u00"))
    ask(account="u01")
    assert claim_names() == [("court_zxfw", "u01")]


# What was set aside comes back -------------------------------------------------------------


def test_new_secrets_bring_back_at_once_what_was_set_aside():
    from apps.tokens.services import accounts

    account = make_account(
        make_site(), cooldown_until=ahead(hours=1), cooldown_reason="account_locked"
    )
    pk = ask(account="alice")
    assert claim() is None
    assert row(pk).not_before > ahead(minutes=50)
    accounts.set_secrets(refreshed(account), {"password": "new"})
    assert claim()


def test_a_new_account_brings_back_at_once_what_was_set_aside():
    site = make_site()
    make_account(site, cooldown_until=ahead(hours=1))
    ask()
    assert claim() is None
    make_account(site, "bob")
    assert claim_names() == [("court_zxfw", "bob")]


def test_another_sites_edit_brings_nothing_back():
    make_account(make_site(), cooldown_until=ahead(hours=1))
    pk = ask()
    claim()
    make_account(make_site("other"))
    requests.reconsider(make_site("third").accounts.all())
    assert row(pk).not_before > ahead(minutes=50)


# Races -------------------------------------------------------------------------------------


def test_a_request_that_is_cancelled_while_it_is_admitted_is_not_logged_in(monkeypatch):
    from apps.tokens.services import selection

    make_account(make_site())
    pk = ask()
    choose = selection.choose

    def cancelled_meanwhile(*args, **kwargs):
        TokenRequest.objects.filter(pk=pk).update(status="cancelled")
        return choose(*args, **kwargs)

    monkeypatch.setattr(selection, "choose", cancelled_meanwhile)
    assert claim() is None
    assert not LoginAttempt.objects.exists()
    assert row(pk).status == "cancelled"
