"""Who asks for what somebody asked for already joins it; what the connector counts decides."""

from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from apps.tokens.models import Interest, LoginAttempt, StoredToken, TokenRequest
from apps.tokens.models.requests import Queue
from apps.tokens.services import completion, requests, waiting
from apps.tokens.services.acquisition import HandOut
from tests.tokens import scripted
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.rules.support import (
    ahead,
    ask,
    ask_batch,
    batch,
    fail,
    grant,
    no_wait,
    obtain,
    row,
    succeed,
)
from tests.tokens.work import claim, work


@pytest.fixture
def account():
    return make_account(make_site())


def detach(pk, name="filing-bot", kind="key"):
    return requests.detach(row(pk), kind=kind, principal_id=name)


# Joining -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "alice"])
def test_everybody_who_asks_for_the_same_shares_one_login(account, name):
    pks = {ask(account=name, principal=caller(name=f"bot-{n}")) for n in range(20)}
    work()
    assert (len(pks), scripted.logins) == (1, ["alice"])


def test_any_named_forced_and_batched_askings_cause_one_login(account):
    tickets = [obtain(), obtain(account="alice"), obtain(force=True), obtain(min_ttl_s=60)]
    ask_batch(account, asker=batch("b1"))
    ask_batch(account, queue=Queue.REFRESH)
    work()
    assert scripted.logins == ["alice"]
    assert len({found.fingerprint for found in waiting.look(tickets).values()}) == 1
    assert set(TokenRequest.objects.values_list("status", flat=True)) == {"done"}


def test_who_looked_a_moment_too_early_joins_all_the_same(account, monkeypatch):
    """Two look, find nothing, and make a request each: the constraint leaves one."""
    first, real, looks = ask(), requests._join, []

    def look(*wanted, **more):
        looks.append(wanted)
        return None if len(looks) == 1 else real(*wanted, **more)

    monkeypatch.setattr(requests, "_join", look)
    assert ask() == first
    assert (len(looks), TokenRequest.objects.count()) == (2, 1)


@pytest.mark.parametrize("same", ["account", "request"])
def test_the_database_itself_refuses_a_second_open_login(account, same):
    ask()
    claim()
    bob = make_account(account.site, "bob")
    pk = ask(account="bob")
    second = LoginAttempt.objects.get()
    second.pk = uuid4()
    if same == "account":
        second.request_id = pk
    else:
        second.account = bob
    with pytest.raises(IntegrityError), transaction.atomic():
        second.save(force_insert=True)


def test_two_named_accounts_are_two_logins(account):
    make_account(account.site, "bob")
    ask(account="alice")
    ask(account="bob")
    work()
    assert sorted(scripted.logins) == ["alice", "bob"]


def test_whoever_joins_a_running_login_is_served_by_it(account):
    first = ask()
    claimed = claim()
    assert ask(principal=caller(name="late")) == first
    succeed(claimed)
    assert claim() is None


def test_joining_extends_the_life_of_a_request(account):
    pk = ask()
    TokenRequest.objects.update(expires_at=row(pk).created_at)
    ask(principal=caller(name="late"))
    assert (row(pk).expires_at - row(pk).created_at).total_seconds() >= 300


def test_joining_raises_what_is_wanted_to_the_most_that_anybody_wants(account):
    succeed_first(account)
    pk = ask(force=True)
    ask(force=True, min_ttl_s=700, principal=caller(name="b"))
    ask(force=True, min_ttl_s=100, principal=caller(name="c"))
    assert (row(pk).newer_than, row(pk).min_ttl_s) == (1, 700)


# Force and min_ttl_s -----------------------------------------------------------------------


def succeed_first(account):
    ask(account=account.username)
    succeed()


def test_force_means_newer_than_the_version_that_is_known(account):
    succeed_first(account)
    assert isinstance(obtain(force=True, known_version=0), HandOut)
    ask(force=True, known_version=1)
    succeed()
    assert StoredToken.objects.get().version == 2
    assert isinstance(obtain(force=True, known_version=1), HandOut)


def test_a_version_nobody_has_given_out_yet_does_not_login_for_ever(account):
    succeed_first(account)
    pk = ask(force=True, known_version=99)
    succeed()
    assert row(pk).status == "done"


def test_one_login_satisfies_everybody_who_forced_before_it_ended(account):
    succeed_first(account)
    tickets = [obtain(force=True, principal=caller(name=f"bot-{n}")) for n in range(5)]
    claimed = claim()
    tickets.append(obtain(force=True, principal=caller(name="late")))
    succeed(claimed)
    assert {found.version for found in waiting.look(tickets).values()} == {2}
    assert claim() is None


def test_a_newer_token_that_ends_sooner_still_answers_a_forced_asking(account):
    bob = make_account(account.site, "bob")
    succeed_first(account)
    ask(account="bob")
    succeed(expires_at=ahead(minutes=20))
    found = obtain(force=True, known_version=1)
    assert isinstance(found, HandOut)
    assert (found.token.account, found.token.version) == (bob.username, 2)


def test_min_ttl_within_what_is_left_needs_no_login(account):
    succeed_first(account)
    assert isinstance(obtain(min_ttl_s=3000), HandOut)


def test_min_ttl_is_capped_by_what_the_site_gives_and_that_is_said(account):
    ticket = obtain(min_ttl_s=100_000)
    assert (ticket.ttl_unattainable, ticket.min_ttl_s < 3600) == (True, True)


# Detaching and cancelling ------------------------------------------------------------------


def test_one_of_two_callers_who_cancels_only_detaches(account):
    pk = ask(principal=caller(name="a"))
    ask(principal=caller(name="b"))
    assert detach(pk, "a") is False
    assert row(pk).status == "queued"
    assert detach(pk, "b") is True
    assert row(pk).status == "cancelled"


def test_a_batch_that_is_cancelled_only_detaches_from_what_a_caller_wants(account):
    pk = ask_batch(account, asker=batch("b1"))
    ask(account="alice")
    assert detach(pk, "b1", "batch") is False
    work()
    assert row(pk).status == "done"


def test_a_caller_who_cancels_leaves_what_a_batch_wants(account):
    pk = ask_batch(account, asker=batch("b1"))
    ask(account="alice")
    assert detach(pk) is False
    assert detach(pk, "b1", "batch") is True


def test_a_stranger_cannot_cancel(account):
    pk = ask()
    assert detach(pk, "stranger") is False
    assert row(pk).status == "queued"


def test_a_running_login_is_not_interrupted_by_cancelling(account):
    pk = ask()
    claimed = claim()
    assert detach(pk) is False
    succeed(claimed)
    assert row(pk).status == "done"


@pytest.mark.parametrize("fault", ["SiteUnavailable", "InvalidCredentials", "NetworkFailure"])
def test_a_login_nobody_is_interested_in_any_more_is_not_repeated(account, fault):
    make_account(account.site, "bob")
    pk = ask()
    claimed = claim()
    detach(pk)
    fail(fault, claimed)
    assert row(pk).status == "cancelled"
    assert claim() is None


def test_a_refused_result_nobody_is_interested_in_is_not_repeated(account):
    pk = ask()
    claimed = claim()
    detach(pk)
    type(account).objects.update(fence=9)
    assert completion.succeed(claimed.attempt_id, grant()) is False
    assert row(pk).status == "cancelled"


def test_work_of_the_system_itself_goes_on_without_anybody_interested(account):
    pk = ask_batch(account, queue=Queue.REFRESH)
    fail("NetworkFailure")
    assert row(pk).status == "queued"


def test_asking_again_after_detaching_counts_again(account):
    pk = ask(principal=caller(name="a"))
    ask(principal=caller(name="b"))
    detach(pk, "a")
    ask(principal=caller(name="a"))
    assert detach(pk, "b") is False
    assert Interest.objects.filter(request_id=pk, detached_at=None).count() == 1


def test_asking_after_a_cancel_makes_a_new_request(account):
    pk = ask()
    detach(pk)
    assert ask() != pk


def test_cancelling_over_the_api_ends_the_callers_own_interest_only(account, api):
    mine, other = api(), api()
    pk = mine.post("tokens/acquire", {"site": "court_zxfw"}).json["request_id"]
    other.post("tokens/acquire", {"site": "court_zxfw"})
    assert mine.post(f"requests/{pk}/cancel").json == {"cancelled": False}
    assert other.post(f"requests/{pk}/cancel").json == {"cancelled": True}


def test_cancelling_what_has_ended_changes_nothing(account):
    pk = ask()
    succeed()
    assert detach(pk) is False
    no_wait()
    assert row(pk).status == "done"
