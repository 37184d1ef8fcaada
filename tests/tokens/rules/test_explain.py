"""Why a request waits: every reason that can be given, each brought about once."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from apps.tokens.models import AdmissionLimits, LoginAttempt, SecretVerdict, SiteBreaker
from apps.tokens.models import TokenRequest as Request
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import breaker as breaker_rules
from apps.tokens.services import explain, locks
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import (
    ago,
    ahead,
    ask,
    ask_batch,
    codes,
    fail,
    no_wait,
    refreshed,
    row,
    send,
    set_account,
    set_site,
    succeed,
)
from tests.tokens.work import claim

ALWAYS = [{"from": "00:00", "to": "24:00"}]


def everything_paused(site):
    AdmissionLimits.objects.create(pk=1, paused=True)


def site_disabled(site):
    set_site(site, enabled=False)


def site_paused(site):
    set_site(site, paused=True)


def site_closed(site):
    set_site(site, closed_hours=ALWAYS)


def site_cooling(site):
    set_site(site, cooldown_until=ahead(hours=1))


def breaker_open(site):
    with locks.admission() as at:
        breaker_rules.force(site, BreakerState.FORCED_OPEN, at=at, by="ann")


def site_budget_spent(site):
    _other_login(site)
    set_site(site, budget_per_site=1)


def global_limit(site):
    AdmissionLimits.objects.create(pk=1, max_concurrent=1)
    _other_login(make_site("elsewhere"), "elsewhere")


def site_limit(site):
    set_site(site, max_concurrent=1)
    _other_login(site)


def reserved_for_interactive(site):
    Request.objects.update(queue="batch")
    AdmissionLimits.objects.create(pk=1, max_concurrent=2)
    _other_login(make_site("elsewhere"), "elsewhere")


def retry_wait(site):
    Request.objects.update(not_before=ahead(minutes=1), attempts=1, error_code="network_error")


def account(site):
    set_account(site.accounts.get(), enabled=False)


def no_accounts(site):
    site.accounts.all().delete()


def person(site):
    Request.objects.update(status="paused")


def login(site):
    claim()


def worker(site):
    """Nothing is in the way."""


def nothing(site):
    Request.objects.update(status="cancelled")


REASONS = (
    everything_paused, site_disabled, site_paused, site_closed, site_cooling, breaker_open,
    site_budget_spent, global_limit, site_limit, reserved_for_interactive, retry_wait, account,
    no_accounts, person, login, worker, nothing,
)  # fmt: skip


def _other_login(site, slug="court_zxfw"):
    """Let another account of this site be logging in."""
    make_account(site, "other")
    Request.objects.update(not_before=ahead(hours=1))
    ask(slug, "other")
    assert claim()
    Request.objects.update(not_before=ago(seconds=1))


@pytest.fixture
def site():
    found = make_site()
    make_account(found)
    return found


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: one.__name__)
def test_a_reason_is_given_when_it_is_the_reason_and_then_only(site, reason):
    pk = ask()
    reason(site)
    assert codes(pk) == [reason.__name__]


def test_every_reason_of_the_code_is_among_these():
    text = Path(explain.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r'(?:code=|_limit\(|code = )"(\w+)"', text))
    named |= set(re.findall(r'else "(\w+)"', text)) | set(re.findall(r'"(\w+)" if ', text))
    assert named - {""} == {one.__name__ for one in REASONS}


def test_several_reasons_are_all_given(site):
    pk = ask()
    for reason in (site_paused, site_cooling, account):
        reason(site)
    assert codes(pk) == ["site_paused", "site_cooling", "account"]


def test_the_earliest_time_is_the_latest_of_the_known_ends(site):
    pk = ask()
    late = ahead(hours=2)
    set_site(site, cooldown_until=late)
    Request.objects.update(not_before=ahead(hours=1))
    assert explain.request(row(pk)).earliest_at == late
    set_site(site, paused=True)
    assert explain.request(row(pk)).earliest_at is None


def test_an_open_breaker_says_when_it_ends_and_how_often_it_tripped(site):
    pk = ask()
    SiteBreaker.objects.create(site=site, state="open", trips=2, open_until=ahead(minutes=4))
    (wait,) = explain.request(row(pk)).waiting_for
    assert wait.until == SiteBreaker.objects.get().open_until
    assert wait.details == {"state": "open", "trips": 2}


def test_a_spent_site_budget_says_when_it_allows_the_next_login(site):
    pk = ask()
    site_budget_spent(site)
    (wait,) = explain.request(row(pk)).waiting_for
    assert wait.until == LoginAttempt.objects.get().started_at + timedelta(hours=1)


def test_the_place_in_the_queue_counts_who_goes_before(site):
    make_account(site, "bob")
    make_account(site, "carl")
    first, second, third = (ask(account=name) for name in ("alice", "bob", "carl"))
    places = [explain.request(row(pk)).position for pk in (first, second, third)]
    assert places == [1, 2, 3]


# Accounts ----------------------------------------------------------------------------------


def account_disabled(account):
    set_account(account, enabled=False)


def account_needs_action(account):
    set_account(account, needs_action="accept the terms")


def secret_known_wrong(account):
    ask(account="alice")
    fail("InvalidCredentials")


def secret_in_doubt(account):
    AdmissionLimits.objects.create(pk=1, in_doubt_resends=0)
    ask(account="alice")
    fail("LoginTimedOut")


def account_locked(account):
    ask(account="alice")
    fail("AccountLocked")


def cooling(account):
    set_account(account, cooldown_until=ahead(hours=1))


def account_budget_spent(account):
    ask(account="alice")
    succeed()
    set_site(account.site, budget_per_account=1)


def account_busy(account):
    ask(account="alice")
    claim()


ACCOUNT_REASONS = (
    account_disabled, account_needs_action, secret_known_wrong, secret_in_doubt, account_locked,
    cooling, account_budget_spent, account_busy,
)  # fmt: skip
FOR_GOOD = {"account_disabled", "account_needs_action", "secret_known_wrong", "secret_in_doubt"}


@pytest.mark.parametrize("reason", ACCOUNT_REASONS, ids=lambda one: one.__name__)
def test_a_reason_of_an_account_is_given_when_it_is_the_reason(site, reason):
    reason(site.accounts.get())
    no_wait()
    (verdict,) = explain.site(refreshed(site)).accounts
    assert (verdict.eligible, verdict.reason) == (False, reason.__name__)
    assert (verdict.until is None) == (reason.__name__ in FOR_GOOD)
    assert claim() is None


def test_a_secret_that_has_worked_is_not_in_doubt(site):
    ask(account="alice")
    succeed()
    ask(account="alice", force=True)
    fail("LoginTimedOut")
    AdmissionLimits.objects.create(pk=1, in_doubt_resends=0)
    assert SecretVerdict.objects.get().proven_at
    assert explain.site(site).accounts[0].eligible


@pytest.mark.parametrize("error", ["LoginTimedOut", "NetworkFailure", "LeaseLost", "WorkerFailed"])
@pytest.mark.parametrize("resends", [0, 1])
def test_an_unproven_secret_in_doubt_is_sent_again_as_often_as_allowed(site, error, resends):
    AdmissionLimits.objects.create(pk=1, in_doubt_resends=resends, max_attempts=9)
    set_site(site, max_concurrent=1)
    ask(account="alice")
    sent = 0
    while claimed := claim():
        fail(error, claimed)
        no_wait()
        with locks.admission() as at:
            breaker_rules.force(site, BreakerState.CLOSED, at=at, by="ann")
        sent += 1
    assert sent == 1 + resends


def test_a_login_that_never_sent_its_secret_leaves_it_without_doubt(site):
    AdmissionLimits.objects.create(pk=1, in_doubt_resends=0)
    ask(account="alice")
    claimed = claim()
    fail("NetworkFailure", claimed, sent=False)
    no_wait()
    assert claim()
    send(claimed)


# The site ----------------------------------------------------------------------------------


def test_a_site_says_what_would_run_next_and_as_whom(site):
    make_account(site, "bob", preferred=True)
    pk = ask()
    found = explain.site(site)
    assert (found.next_request, found.next_account) == (str(pk), "bob")
    assert claim().credentials.username == "bob"


def test_a_site_without_requests_runs_nothing_next(site):
    found = explain.site(site)
    assert (found.queued, found.next_request, found.next_account) == (0, None, None)


def test_explanations_over_the_api(site, api):
    pk = ask()
    set_site(site, paused=True)
    found = api().get(f"requests/{pk}/explain").json
    assert [wait["code"] for wait in found["waiting_for"]] == ["site_paused"]
    assert found["accounts"][0]["eligible"] is True
    found = api().get("sites/court_zxfw/explain").json
    assert (found["queued"], found["next_account"]) == (1, "alice")


def test_a_background_request_that_runs_says_login(site):
    pk = ask_batch(site.accounts.get())
    assert claim()
    assert codes(pk) == ["login"]
