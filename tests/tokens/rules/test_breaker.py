"""The breaker of a site: what moves it, what does not, and how it finds out that the site is up."""

import pytest
from django.contrib import admin
from django.test import RequestFactory

from apps.tokens.models import AdmissionLimits, BreakerTransition, LoginAttempt, Site, SiteBreaker
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import breaker as rules
from apps.tokens.services import completion, locks, recovery, site_health
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import (
    ago,
    ahead,
    breaker,
    claim_names,
    codes,
    fail,
    grant,
    no_wait,
    obtain,
    refreshed,
    send,
    set_site,
    state,
    succeed,
)
from tests.tokens.rules.support import (
    ask as ask_for,
)
from tests.tokens.scripted import ScriptedConnector
from tests.tokens.work import BackToTheTest, claim

ROOM = {"max_concurrent": 50, "budget_per_site": 1000}


@pytest.fixture(autouse=True)
def limits():
    return AdmissionLimits.objects.create(pk=1, max_concurrent=100)


@pytest.fixture
def site():
    return make_site(**ROOM)


def ask(site="court_zxfw", account="alice"):
    """Ask for the token of an account, made when first named."""
    row = Site.objects.get(slug=site)
    if not row.accounts.filter(username=account).exists():
        make_account(row, account)
    return ask_for(site, account)


@pytest.fixture
def logins(site):
    """Make logins one after the other, each of another account: a class' name, or '' for good."""
    numbers = iter(range(30))

    def make(*results):
        for result in results:
            ask(account=f"u{next(numbers):02}")
            fail(result) if result else succeed()

    return make


@pytest.fixture
def broken(site, logins):
    """A site whose breaker has just opened."""
    logins(*["SiteUnavailable"] * 3)
    assert state(site) == "open"
    return site


def time_is_over(site, *, healthy=True):
    """Let the breaker's time be over, and the health request answered if it is `healthy`."""
    SiteBreaker.objects.filter(site=site).update(
        open_until=ago(seconds=1), healthy_at=ago(seconds=1) if healthy else None
    )


def ask_health():
    threads = BackToTheTest()
    return threads.drive(site_health.ask_one(threads))


def open_for_s(site):
    found = breaker(site)
    return round((found.open_until - found.changed_at).total_seconds())


def transitions(site):
    return [(one.before, one.after) for one in site.breaker_transitions.order_by("pk")]


# Opening -----------------------------------------------------------------------------------


def test_two_failures_leave_it_closed_and_the_third_in_a_row_opens_it_for_300_s(site, logins):
    logins("SiteUnavailable", "LoginTimedOut")
    assert state(site) == "closed"
    logins("UnexpectedPage")
    assert (state(site), open_for_s(site)) == ("open", 300)


def test_a_success_between_failures_ends_the_row(site, logins):
    logins("", "", "", "SiteUnavailable", "SiteUnavailable", "", "SiteUnavailable")
    assert state(site) == "closed"


def test_half_of_the_last_logins_opens_it_and_fewer_than_five_do_not(site, logins):
    logins("SiteUnavailable", "SiteUnavailable", "", "SiteUnavailable")
    assert state(site) == "closed"  # 3 of 4
    logins("", "SiteUnavailable")
    assert state(site) == "open"  # 4 of 6


def test_just_under_half_leaves_it_closed(site, logins):
    logins("", "", "", "SiteUnavailable", "SiteUnavailable", "", "SiteUnavailable", "")
    assert state(site) == "closed"  # 3 of 8


def test_only_the_last_twenty_logins_count_for_the_rate(site, logins):
    logins("SiteUnavailable", "SiteUnavailable", *[""] * 18)
    assert rules._failure_rate(breaker(site)) == 2 / 20
    logins("", "")
    assert rules._failure_rate(breaker(site)) == 0


@pytest.mark.parametrize("fault", ["NetworkFailure", "WorkerFailed", "RecipeError"])
def test_faults_of_the_network_and_our_own_neither_open_it_nor_end_a_row(site, logins, fault):
    logins(*[fault] * 6)
    assert state(site) == "closed"
    logins("SiteUnavailable", "SiteUnavailable", fault)
    assert state(site) == "closed"
    logins("SiteUnavailable")
    assert state(site) == "open"


def test_faults_of_the_network_are_none_of_the_logins_of_the_rate(site, logins):
    logins("SiteUnavailable", "NetworkFailure", "NetworkFailure", "", "NetworkFailure")
    logins("SiteUnavailable")
    assert state(site) == "closed"  # the site spoke three times only


@pytest.mark.parametrize("fault", ["InvalidCredentials", "AccountLocked", "OneTimeCodeRejected"])
def test_an_accounts_own_fault_never_counts_against_the_site(site, logins, fault):
    logins(*[fault] * 8)
    assert state(site) == "closed"


def test_a_refused_password_is_an_answer_and_ends_a_row(site, logins):
    logins("", "", "", "", "SiteUnavailable", "SiteUnavailable", "InvalidCredentials")
    logins("SiteUnavailable")
    assert state(site) == "closed"


def test_a_result_of_an_old_world_does_not_count(site, logins):
    logins("SiteUnavailable", "SiteUnavailable")
    ask(account="u29")
    old = claim()
    site.accounts.filter(username="u29").update(fence=7)
    from apps.tokens.errors import SiteUnavailable

    assert completion.fail(old.attempt_id, SiteUnavailable()) is False
    assert state(site) == "closed"


def test_slow_logins_count_only_when_the_site_says_so(site, logins):
    def slow_login(name):
        ask(account=name)
        claimed = claim()
        send(claimed)
        LoginAttempt.objects.filter(pk=claimed.attempt_id).update(started_at=ago(seconds=20))
        completion.succeed(claimed.attempt_id, grant())

    for n in range(3):
        slow_login(f"u{n:02}")
    assert state(site) == "closed"
    LoginAttempt.objects.all().delete()
    set_site(site, breaker_slow_s=10)
    for n in range(3, 6):
        slow_login(f"u{n:02}")
    assert state(site) == "open"


def test_slow_logins_count_for_the_rate_too(site, logins):
    set_site(site, breaker_slow_s=10)
    logins("", "", "")
    LoginAttempt.objects.update(started_at=ago(seconds=20))
    logins("", "", "SiteUnavailable")
    assert state(site) == "open"  # 4 of 6, never 3 in a row


def test_another_site_is_not_touched(broken):
    other = make_site("other")
    make_account(other)
    ask("other")
    assert claim_names() == [("other", "alice")]


# Probing -----------------------------------------------------------------------------------


def test_while_open_nothing_starts(broken):
    ask(account="u20")
    assert claim() is None


def test_after_its_time_it_asks_the_health_request_first(broken):
    time_is_over(broken, healthy=False)
    ask(account="u20")
    assert claim() is None


def test_a_healthy_answer_lets_exactly_one_login_through(broken, monkeypatch):
    monkeypatch.setattr(ScriptedConnector, "health", _health(True))
    time_is_over(broken, healthy=False)
    assert ask_health()
    ask(account="u20")
    ask(account="u21")
    assert claim_names() == [("court_zxfw", "u20")]
    assert state(broken) == "half_open"


def test_an_unhealthy_answer_opens_it_for_longer_without_a_login(broken, monkeypatch):
    monkeypatch.setattr(ScriptedConnector, "health", _health(False))
    time_is_over(broken, healthy=False)
    assert ask_health()
    ask(account="u20")
    assert claim() is None
    assert (state(broken), open_for_s(broken)) == ("open", 600)


def test_without_a_health_request_the_probe_login_follows_at_once(broken):
    time_is_over(broken, healthy=False)
    assert ask_health()
    ask(account="u20")
    assert len(claim_names()) == 1


def test_a_crash_of_the_health_code_is_no_answer_and_goes_on_to_the_probe(broken, monkeypatch):
    monkeypatch.setattr(ScriptedConnector, "health", _health(ZeroDivisionError()))
    time_is_over(broken, healthy=False)
    assert ask_health()
    ask(account="u20")
    assert len(claim_names()) == 1


def test_the_health_request_is_leased(broken):
    time_is_over(broken, healthy=False)
    with locks.admission() as at:
        (found,) = rules.health_due(at=at)
        assert rules.take_health(found, at=at)
        assert not rules.take_health(found, at=at)
        assert list(rules.health_due(at=at)) == []


def test_a_health_answer_does_not_undo_a_persons_word(broken):
    time_is_over(broken, healthy=False)
    with locks.admission() as at:
        (asked,) = rules.health_due(at=at)
        rules.take_health(asked, at=at)
        rules.force(broken, BreakerState.FORCED_CLOSED, at=at, by="ann")
        rules.health_answered(asked, False, at=at)
    assert state(broken) == "forced_closed"


def test_a_probe_that_succeeds_closes_it(broken):
    time_is_over(broken)
    ask(account="u20")
    succeed()
    assert state(broken) == "closed"
    ask(account="u21")
    ask(account="u22")
    assert claim_names() == [("court_zxfw", "u21"), ("court_zxfw", "u22")]


def test_a_refused_password_ends_the_probe_as_reachable(broken):
    time_is_over(broken)
    ask(account="u20")
    fail("InvalidCredentials")
    assert state(broken) == "closed"


def test_each_trip_lasts_longer_up_to_a_cap(broken):
    lasted = [open_for_s(broken)]
    for n in range(20, 26):
        time_is_over(broken)
        ask(account=f"u{n}")
        fail("SiteUnavailable")
        lasted.append(open_for_s(broken))
    assert lasted == [300, 600, 1200, 2400, 3600, 3600, 3600]


def test_after_closing_the_first_trip_is_short_again(broken, logins):
    time_is_over(broken)
    ask(account="u20")
    succeed()
    logins(*["SiteUnavailable"] * 3)
    assert open_for_s(broken) == 300


def test_logins_from_before_the_probe_do_not_open_it_again(broken, logins):
    time_is_over(broken)
    ask(account="u20")
    succeed()
    logins("", "SiteUnavailable", "")
    assert state(broken) == "closed"


@pytest.mark.parametrize("fault", ["NetworkFailure", "WorkerFailed"])
def test_a_probe_that_heard_nothing_of_the_site_is_made_again_soon(broken, fault):
    time_is_over(broken)
    ask(account="u20")
    fail(fault)
    assert (state(broken), open_for_s(broken), breaker(broken).trips) == ("open", 30, 1)
    SiteBreaker.objects.update(open_until=ago(seconds=1))
    ask(account="u21")
    assert len(claim_names()) == 1


def test_a_dead_probers_breaker_probes_again(broken, monkeypatch):
    time_is_over(broken)
    ask(account="u20")
    claim()
    monkeypatch.setattr(recovery, "is_alive", lambda process: False)
    recovery.sweep()
    monkeypatch.undo()
    SiteBreaker.objects.update(open_until=ago(seconds=1))
    no_wait()
    assert state(broken) == "open"
    assert claim()


def test_a_half_open_breaker_whose_probe_is_gone_lets_another_one_through(broken):
    time_is_over(broken)
    ask(account="u20")
    claimed = claim()
    LoginAttempt.objects.filter(pk=claimed.attempt_id).update(outcome="lost", finished_at=ago())
    ask(account="u21")
    ask(account="u22")
    assert len(claim_names()) == 1


def test_a_login_begun_before_it_opened_does_not_end_the_probe(site, logins):
    ask(account="u28")
    early = claim()
    logins(*["SiteUnavailable"] * 3)
    time_is_over(site)
    ask(account="u20")
    claim()
    succeed(early)
    assert state(site) == "half_open"


# A person's word ---------------------------------------------------------------------------


def test_forced_open_stays_open_whatever_the_time(site):
    _force(site, BreakerState.FORCED_OPEN)
    SiteBreaker.objects.update(open_until=ago(days=1), healthy_at=ago(days=1))
    ask(account="u01")
    assert claim() is None


def test_forced_closed_stays_closed_whatever_fails(site, logins):
    _force(site, BreakerState.FORCED_CLOSED)
    logins(*["SiteUnavailable"] * 7)
    assert state(site) == "forced_closed"
    ask(account="u20")
    assert claim()


def test_a_reset_closes_it_and_forgets_what_was_counted(broken, logins):
    _force(broken, BreakerState.CLOSED)
    logins("SiteUnavailable", "SiteUnavailable")
    assert state(broken) == "closed"


def test_a_login_that_runs_while_it_is_forced_open_does_not_move_it(site):
    ask(account="u01")
    claimed = claim()
    _force(site, BreakerState.FORCED_OPEN)
    succeed(claimed)
    assert state(site) == "forced_open"


@pytest.mark.parametrize("wanted", ["forced_open", "forced_closed", "closed"])
def test_an_operator_sets_it_over_the_api(broken, api, wanted):
    found = api().post("sites/court_zxfw/breaker", {"state": wanted})
    assert (found.status, found.json["state"], state(broken)) == (200, wanted, wanted)
    assert BreakerTransition.objects.first().by == "robot"


def test_the_api_sets_no_state_that_only_the_rules_may(site, api):
    assert api().post("sites/court_zxfw/breaker", {"state": "half_open"}).status == 400


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ("reset_breakers", "closed"),
        ("force_open", "forced_open"),
        ("force_closed", "forced_closed"),
    ],
)
def test_an_operator_sets_it_in_the_admin(broken, admin_user, monkeypatch, action, wanted):
    monkeypatch.setattr("apps.tokens.admin.rows.messages.success", lambda *_: None)
    request = RequestFactory().post("/")
    request.user = admin_user
    page = admin.site._registry[SiteBreaker]
    getattr(page, action)(request, SiteBreaker.objects.all())
    assert state(broken) == wanted
    assert BreakerTransition.objects.first().by == "admin"


def test_every_change_is_recorded_with_its_reason(broken):
    time_is_over(broken)
    ask(account="u20")
    fail("SiteUnavailable")
    time_is_over(broken)
    ask(account="u21")
    succeed()
    _force(broken, BreakerState.FORCED_OPEN)
    assert transitions(broken) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "forced_open"),
    ]
    reasons = [one.reason for one in broken.breaker_transitions.order_by("pk")]
    assert reasons[0] == "3 failures in a row, the last: site_unavailable; for 300 s"
    assert all(reasons)


# Closed hours, rate limits -----------------------------------------------------------------


def test_in_closed_hours_failures_do_not_open_it(site):
    held = []
    for n in range(6):
        ask(account=f"u{n:02}")
        held.append(claim())
    set_site(site, closed_hours=[{"from": "00:00", "to": "24:00"}])
    for claimed in held:
        fail("SiteUnavailable", claimed)
    assert state(site) == "closed"


def test_failures_of_closed_hours_do_not_count_after_them(site, logins):
    held = []
    for n in range(20, 26):
        ask(account=f"u{n:02}")
        held.append(claim())
    set_site(site, paused=True)
    for claimed in held:
        fail("SiteUnavailable", claimed)
    set_site(site, paused=True, paused_until=ahead(milliseconds=1))
    logins("", "SiteUnavailable")
    assert state(site) == "closed"


@pytest.mark.parametrize("result", ["", "SiteUnavailable", "NetworkFailure"])
def test_in_closed_hours_a_probes_result_moves_nothing_and_another_probe_follows(broken, result):
    time_is_over(broken)
    ask(account="u20")
    claimed = claim()
    before = transitions(broken)
    set_site(broken, closed_hours=[{"from": "00:00", "to": "24:00"}])
    fail(result, claimed) if result else succeed(claimed)
    assert (state(broken), transitions(broken)) == ("half_open", before)
    set_site(broken, closed_hours=[])
    ask(account="u21")
    ask(account="u22")
    assert len(claim_names()) == 1


def test_in_closed_hours_the_health_of_a_site_is_not_asked(broken):
    time_is_over(broken, healthy=False)
    set_site(broken, closed_hours=[{"from": "00:00", "to": "24:00"}])
    assert not ask_health()


def test_a_rate_limited_site_rests_for_as_long_as_it_asked(site):
    pk = ask(account="u00")
    fail("RateLimited", retry_after_s=77)
    rest_s = (refreshed(site).cooldown_until - ago()).total_seconds()
    assert (round(rest_s), state(site)) == (77, "closed")
    ask(account="u01")
    assert claim() is None
    assert "site_cooling" in codes(pk)
    set_site(site, cooldown_until=ago(seconds=1))
    assert claim()


def test_of_two_rate_limits_the_longer_holds(site):
    ask(account="u00")
    ask(account="u01")
    first, second = claim(), claim()
    fail("RateLimited", first, retry_after_s=600)
    fail("RateLimited", second, retry_after_s=1)
    assert refreshed(site).cooldown_until > ahead(seconds=500)


def test_rate_limits_do_not_move_the_breaker_and_answer_a_probe(broken):
    time_is_over(broken)
    ask(account="u20")
    fail("RateLimited")
    assert state(broken) == "closed"


def test_the_202_says_that_the_breaker_is_open(broken):
    from apps.tokens.services import answers

    make_account(broken, "u20")
    _, body = answers.pending(obtain(account="u20"))
    assert body["waiting_for"]["code"] == "breaker_open"
    assert body["waiting_for"]["until"]


def _force(site, wanted):
    with locks.admission() as at:
        rules.force(site, wanted, at=at, by="ann")


def _health(answer):
    async def health(self, context):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return health
