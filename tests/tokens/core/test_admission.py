"""Who goes next, and within which limits."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, TokenRequest
from apps.tokens.services import acquisition, requests, selection
from apps.tokens.services.acquisition import AcquireSpec
from apps.tokens.services.requests import Demand
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import claim


def ask(site, account=None):
    spec = AcquireSpec(site=site, account=account)
    return acquisition.obtain(spec, principal=caller()).request_id


def claims():
    found = []
    while claimed := claim():
        found.append((claimed.site.slug, claimed.credentials.username))
    return found


def test_limits_are_three_in_all_two_a_site_and_one_an_account():
    for slug in ("a", "b", "c"):
        site = make_site(slug)
        for username in ("u1", "u2", "u3"):
            make_account(site, username)
            ask(slug, username)
    got = claims()
    assert got == [("a", "u1"), ("a", "u2"), ("b", "u1")]


def test_an_edited_limit_holds_from_the_next_admission():
    site = make_site(max_concurrent=5)
    for n in range(5):
        make_account(site, f"u{n}")
        ask("court_zxfw", f"u{n}")
    AdmissionLimits.objects.create(pk=1, max_concurrent=4)
    assert len(claims()) == 4
    AdmissionLimits.objects.update(max_concurrent=5)
    assert len(claims()) == 1


def test_a_saturated_site_delays_no_other():
    full, idle = make_site("full", max_concurrent=1), make_site("idle")
    for n in range(4):
        make_account(full, f"u{n}")
        ask("full", f"u{n}")
    make_account(idle)
    ask("idle")
    assert claims() == [("full", "u0"), ("idle", "alice")]


def test_an_account_that_cools_down_delays_no_other():
    site = make_site()
    make_account(site, "cold", cooldown_until=timezone.now() + timedelta(minutes=5))
    make_account(site, "warm")
    cold = ask("court_zxfw", "cold")
    ask("court_zxfw", "warm")
    assert claims() == [("court_zxfw", "warm")]
    row = TokenRequest.objects.get(pk=cold)
    assert row.status == "queued"
    assert row.not_before == Account.objects.get(username="cold").cooldown_until


def test_first_come_first_served_within_a_priority():
    site = make_site(max_concurrent=3)
    for name in ("u3", "u1", "u2"):
        make_account(site, name)
        ask("court_zxfw", name)
    assert [name for _, name in claims()] == ["u3", "u1", "u2"]


def test_priority_goes_first_and_patience_overtakes_it():
    site = make_site(max_concurrent=3)
    rows = {name: make_account(site, name) for name in ("old_batch", "new_batch", "person")}
    pks = {
        name: requests.ask(
            Demand(site=site, account=rows[name], reason="warm_up", queue="batch"), asker=None
        )
        for name in ("old_batch", "new_batch")
    }
    early = timezone.now() - timedelta(seconds=10)
    TokenRequest.objects.filter(pk=pks["old_batch"]).update(order_at=early)
    ask("court_zxfw", "person")
    assert [name for _, name in claims()] == ["old_batch", "person"]


def test_background_work_leaves_a_permit_to_whoever_waits_in_person():
    for slug in ("a", "b", "c"):
        account = make_account(make_site(slug))
        requests.ask(
            Demand(site=account.site, account=account, reason="warm_up", queue="batch"), asker=None
        )
    assert len(claims()) == 2
    make_account(make_site("d"))
    ask("d")
    assert claims() == [("d", "alice")]


def test_a_queue_is_served_by_its_own_cluster_only(settings):
    settings.LATCHKEY_QUEUES = {"batch": "night"}
    site = make_site()
    account = make_account(site)
    requests.ask(Demand(site=site, account=account, reason="warm_up", queue="batch"), asker=None)
    assert claim("default") is None
    assert claim("night") is not None


def test_a_login_says_how_many_were_open_when_it_began():
    site = make_site()
    for name in ("u1", "u2"):
        make_account(site, name)
        ask("court_zxfw", name)
    claims()
    assert sorted(LoginAttempt.objects.values_list("concurrency_at_start", flat=True)) == [1, 2]


@pytest.mark.parametrize(
    ("facts", "points"),
    [
        ({}, 10),
        ({"success_count": 60, "failure_count": 20, "hours": 30}, 70 + 50 + 15),
        ({"success_count": 1, "failure_count": 0, "hours": 500}, 0 + 1 + 20),
        ({"success_count": 0, "failure_count": 4}, 0),
    ],
)
def test_the_score_is_the_one_of_the_requirements(facts, points):
    at = timezone.now()
    hours = facts.pop("hours", None)
    last = at - timedelta(hours=hours) if hours else None
    account = Account(last_success_at=last, **facts)
    assert selection.score(account, at=at) == pytest.approx(points)


def test_the_preferred_account_comes_first():
    site = make_site()
    make_account(site, "proven", success_count=50, last_success_at=timezone.now())
    make_account(site, "favourite", preferred=True)
    ask("court_zxfw")
    assert claims() == [("court_zxfw", "favourite")]


def test_the_best_score_comes_first():
    site = make_site()
    make_account(site, "a_new_one")
    make_account(site, "proven", success_count=50, last_success_at=timezone.now())
    ask("court_zxfw")
    assert claims() == [("court_zxfw", "proven")]


def test_least_recently_used_takes_turns():
    site = make_site(strategy="least_recently_used")
    make_account(site, "yesterday", last_attempt_at=timezone.now() - timedelta(days=1))
    make_account(site, "last_week", last_attempt_at=timezone.now() - timedelta(days=7))
    ask("court_zxfw")
    assert claims() == [("court_zxfw", "last_week")]
