"""Which account logs in, and which of several valid tokens a caller gets."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.caching import services as cache
from apps.tokens.models import Account, StoredToken
from apps.tokens.services import acquisition, selection
from apps.tokens.services.lookup import Member
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.rules.support import ago, ask, claim_names, obtain, succeed
from tests.tokens.work import work


def order(site):
    """Return the accounts in the order in which they would log in."""
    at = timezone.now()
    rows = sorted(site.accounts.all(), key=lambda one: selection.rank(one, site=site, at=at))
    return [row.username for row in rows]


# The score of row A4 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "points"),
    [
        ({}, 10),  # new
        ({"last": 0}, 100 + 10),  # a success just now
        ({"last": 24}, 76 + 10),  # minus one an hour
        ({"last": 100}, 0 + 10),
        ({"last": 5000}, 0 + 10),
        ({"success_count": 7}, 7 + 20),
        ({"success_count": 50}, 50 + 20),
        ({"success_count": 900}, 50 + 20),
        ({"success_count": 3, "failure_count": 1}, 3 + 15),
        ({"failure_count": 10}, 0),
        ({"last": 10, "success_count": 20, "failure_count": 20}, 90 + 20 + 10),
    ],
)
def test_the_score_is_recency_plus_successes_plus_rate(facts, points):
    at = timezone.now()
    last = facts.pop("last", None)
    account = Account(last_success_at=None if last is None else at - timedelta(hours=last), **facts)
    assert selection.score(account, at=at) == pytest.approx(points)


def test_a_success_in_the_future_of_a_skewed_clock_is_worth_no_more_than_now():
    at = timezone.now()
    account = Account(last_success_at=at + timedelta(hours=5))
    assert selection.score(account, at=at) == pytest.approx(110)


# Strategies --------------------------------------------------------------------------------


def test_best_score_takes_the_best_and_among_equals_who_waited_longest():
    site = make_site(strategy="best_score")
    make_account(site, "bad", failure_count=5)
    make_account(site, "new_later", last_attempt_at=ago(hours=1))
    make_account(site, "new", last_attempt_at=ago(hours=2))
    make_account(site, "good", success_count=9, last_success_at=ago(hours=1))
    assert order(site) == ["good", "new", "new_later", "bad"]


def test_least_recently_used_goes_by_the_last_success():
    site = make_site(strategy="least_recently_used")
    make_account(site, "today", last_success_at=ago(hours=1), last_attempt_at=ago(days=9))
    make_account(site, "last_week", last_success_at=ago(days=7), last_attempt_at=ago(hours=1))
    make_account(site, "never", last_attempt_at=ago(minutes=1))
    assert order(site) == ["never", "last_week", "today"]


def test_round_robin_goes_by_the_last_attempt_whatever_came_of_it():
    site = make_site(strategy="round_robin")
    make_account(site, "failed_now", last_attempt_at=ago(minutes=1))
    make_account(site, "good_before", last_attempt_at=ago(hours=1), success_count=50)
    assert order(site) == ["good_before", "failed_now"]


def test_round_robin_takes_every_account_once_a_round():
    site = make_site(strategy="round_robin")
    for name in ("u1", "u2", "u3"):
        make_account(site, name)
    taken = []
    for _ in range(6):
        ask(force=True)
        taken.append(succeed().credentials.username)
    assert Counter(taken[:3]) == Counter(taken[3:]) == Counter(["u1", "u2", "u3"])


@pytest.mark.parametrize("strategy", ["best_score", "least_recently_used", "round_robin"])
def test_a_preferred_account_comes_first_whatever_the_strategy(strategy):
    site = make_site(strategy=strategy)
    make_account(site, "good", success_count=50, last_success_at=ago(hours=1))
    make_account(site, "new")
    make_account(
        site,
        "favourite",
        preferred=True,
        failure_count=9,
        last_attempt_at=ago(),
        last_success_at=ago(),
    )
    assert order(site)[0] == "favourite"


@pytest.mark.parametrize("strategy", ["best_score", "least_recently_used", "round_robin"])
@pytest.mark.parametrize(
    "hindrance",
    [
        {"enabled": False},
        {"needs_action": "accept the terms"},
        {"cooldown_until": timezone.now() + timedelta(days=999)},
    ],
    ids=["disabled", "needs action", "cooling"],
)
def test_a_hindered_account_is_never_chosen_whatever_the_strategy(strategy, hindrance):
    site = make_site(strategy=strategy)
    make_account(site, "favourite", preferred=True, success_count=50, **hindrance)
    make_account(site, "other", failure_count=9)
    ask()
    assert claim_names() == [("court_zxfw", "other")]


def test_a_busy_account_is_not_chosen_a_second_time():
    site = make_site(max_concurrent=5)
    make_account(site, "favourite", preferred=True)
    make_account(site, "other")
    ask(account="favourite")
    ask()
    assert [name for _, name in claim_names()] == ["favourite", "other"]


# Hand-out ----------------------------------------------------------------------------------


def members(*names):
    """The first of these lives longest."""
    return [Member(account=name, labels=(), ends_s=100.0 - n) for n, name in enumerate(names)]


def pick(pool, strategy, name="bot"):
    return acquisition.pick(pool, strategy=strategy, caller=name).account


def test_best_is_the_one_that_lives_longest():
    assert pick(members("longest", "longer", "short"), "best") == "longest"


def test_sticky_gives_a_caller_the_same_one_every_time_and_spreads_the_callers():
    pool = members(*(f"u{n}" for n in range(5)))
    got = {name: {pick(pool, "sticky", name) for _ in range(5)} for name in map(str, range(100))}
    assert all(len(one) == 1 for one in got.values())
    assert min(Counter(one.copy().pop() for one in got.values()).values()) > 5


def test_sticky_moves_only_those_whose_account_has_gone():
    pool = members(*(f"u{n}" for n in range(5)))
    left = [one for one in pool if one.account != "u2"]
    for name in map(str, range(100)):
        before, after = pick(pool, "sticky", name), pick(left, "sticky", name)
        assert after == before or before == "u2"


def test_spread_uses_all_of_them():
    pool = members(*(f"u{n}" for n in range(4)))
    assert {pick(pool, "spread") for _ in range(200)} == {"u0", "u1", "u2", "u3"}


@pytest.mark.parametrize(("strategy", "distinct"), [("best", 1), ("sticky", 4), ("spread", 4)])
def test_the_sites_strategy_decides_which_token_callers_get(strategy, distinct):
    site = make_site(hand_out=strategy)
    for n in range(4):
        make_account(site, f"u{n}")
        ask(account=f"u{n}")
    work()
    got = {obtain(principal=caller(name=f"bot-{n}")).token.account for n in range(60)}
    assert len(got) == distinct


def test_a_token_that_is_too_short_for_the_caller_is_not_picked():
    site = make_site(hand_out="sticky")
    for n in range(4):
        make_account(site, f"u{n}")
        ask(account=f"u{n}")
    work()
    soon = timezone.now() + timedelta(seconds=100)
    StoredToken.objects.exclude(account__username="u1").update(usable_until=soon)
    cache.clear_all()
    for n in range(20):
        found = obtain(principal=caller(name=f"bot-{n}"), min_ttl_s=600)
        assert found.token.account == "u1"
