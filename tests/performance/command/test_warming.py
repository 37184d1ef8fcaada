"""Warming up queues exactly the logins that are missing, and waits for them if asked."""

from datetime import timedelta

import pytest

from apps.caching import services as cache
from apps.common.clock import now
from apps.common.errors import ValidationFailed
from apps.tokens.errors import SiteDisabled, UnknownAccount, UnknownSite
from apps.tokens.models import StoredToken, TokenRequest
from apps.tokens.models.requests import Queue, Reason
from apps.tokens.services import lookup, warming
from tests.tokens import scripted
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work


@pytest.fixture
def site():
    return make_site()


def test_missing_tokens_are_asked_for_at_batch_priority(site):
    make_account(site, "alice")
    make_account(site, "bob")

    report = warming.warm(["court_zxfw"])

    rows = TokenRequest.objects.values_list("reason", "queue")
    assert list(rows) == [(Reason.WARM_UP, Queue.BATCH)] * 2
    assert (report.accounts, report.requested, report.pending, report.fresh) == (2, 2, 2, 0)


def test_what_is_asked_often_is_loaded(site):
    make_account(site, "alice")
    warming.warm(["court_zxfw"])

    kept = ("site_configuration", "credentials", "account_statistics", "blacklist")
    assert all(cache.exists(namespace, "court_zxfw") for namespace in kept)


def test_it_really_logs_in_and_then_there_is_nothing_to_do(site):
    make_account(site, "alice")
    warming.warm(["court_zxfw"])
    work()

    again = warming.warm(["court_zxfw"])

    assert scripted.logins == ["alice"]
    assert lookup.find("court_zxfw", "alice") is not None
    assert (again.fresh, again.requested) == (1, 0)


def test_a_token_that_ends_soon_is_replaced_while_it_still_serves(site):
    make_account(site, "alice")
    warming.warm(["court_zxfw"])
    work()
    StoredToken.objects.update(refresh_after=now() - timedelta(seconds=1))

    report = warming.warm(["court_zxfw"])
    assert lookup.find("court_zxfw", "alice") is not None
    work()

    assert report.requested == 1
    assert len(scripted.logins) == 2


def test_an_account_that_may_not_log_in_is_told_and_not_asked_for(site):
    make_account(site, "alice", cooldown_until=now() + timedelta(hours=1), cooldown_reason="rest")
    make_account(site, "bob", needs_action="call them")

    report = warming.warm(["court_zxfw"])

    assert report.skipped == {"account_needs_action": 1, "rest": 1}
    assert not TokenRequest.objects.exists()


def test_nothing_is_queued_at_a_closed_site():
    make_account(make_site(paused=True))

    report = warming.warm(["court_zxfw"])

    assert report.skipped == {"site_closed": 1}
    assert not TokenRequest.objects.exists()


def test_two_warm_ups_share_their_logins(site):
    make_account(site)

    first, second = warming.warm(["court_zxfw"]), warming.warm(["court_zxfw"])

    assert first.request_ids == second.request_ids


def test_waiting_ends_with_the_logins_and_tells_how_far_it_is(site):
    make_account(site, "alice")
    make_account(site, "bob")
    told = []

    report = warming.warm(
        ["court_zxfw"], max_wait_s=60, on_progress=told.append, sleep=lambda _: work(limit=1)
    )

    assert (report.acquired, report.failed, report.pending) == (2, 0, 0)
    assert [(one.done, one.total) for one in told] == [(0, 2), (1, 2), (2, 2)]


def test_a_failed_login_is_counted(site):
    site.recipe = {"fail": "InvalidCredentials"}
    site.save()
    make_account(site)

    report = warming.warm(["court_zxfw"], max_wait_s=60, sleep=lambda _: work(limit=1))

    assert (report.acquired, report.failed) == (0, 1)


def test_patience_ends_and_the_logins_go_on(site):
    make_account(site)
    clock = iter(range(0, 1_000, 10))

    report = warming.warm(
        ["court_zxfw"], max_wait_s=30, sleep=lambda _: None, clock=lambda: next(clock)
    )

    assert report.pending == 1


def test_a_dry_run_asks_for_nothing(site):
    make_account(site)

    report = warming.warm(None, dry_run=True)

    assert (report.requested, report.request_ids) == (1, ())
    assert not TokenRequest.objects.exists()


def test_accounts_can_be_named(site):
    make_account(site, "alice")
    make_account(site, "bob")

    warming.warm(["court_zxfw"], ["bob"])

    assert TokenRequest.objects.get().account.username == "bob"


@pytest.mark.parametrize(
    ("sites", "accounts", "error"),
    [
        (["nowhere"], None, UnknownSite),
        (["court_zxfw", "nowhere"], None, UnknownSite),
        (["off"], None, SiteDisabled),
        (["court_zxfw"], ["nobody"], UnknownAccount),
        (None, ["alice"], ValidationFailed),
    ],
)
def test_a_mistake_is_refused_before_anything_is_queued(site, sites, accounts, error):
    make_account(site, "alice")
    make_site("off", enabled=False)
    make_site("third")

    with pytest.raises(error):
        warming.warm(sites, accounts)

    assert not TokenRequest.objects.exists()
