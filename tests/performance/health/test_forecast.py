"""When a pool will be empty, and how often the forecast is right."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from apps.common.clock import database_now
from apps.performance.services import forecast, forecast_replay
from apps.performance.services.forecast import AccountFacts, Pool
from apps.tokens.models import Account, LoginAttempt, SiteBreaker, StoredToken
from apps.tokens.models.requests import Queue, Reason, TokenRequest
from apps.tokens.services.owner import Owner
from tests.performance.alerts.conftest import api  # noqa: F401 - a fixture
from tests.performance.health import days
from tests.tokens.factories import make_account, make_site

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def minutes(n):
    return AT + timedelta(minutes=n)


def pool(*accounts, logins=(), **more):
    facts = tuple(
        AccountFacts(
            usable_until=None if usable is None else minutes(usable),
            able_from=None if able is None else minutes(able),
        )
        for usable, able in accounts
    )
    return Pool(accounts=facts, logins=tuple((minutes(-n), ok) for n, ok in logins), **more)


def failing_for(minutes_):
    """A login a minute: an hour of successes, then failures until now."""
    return [(n, n > minutes_) for n in range(60)]


@pytest.mark.parametrize(
    ("about", "expected", "reason"),
    [
        (pool(), None, "no_accounts"),
        (pool((10, 0)), None, "lasts"),
        (pool((None, 0)), None, "lasts"),
        (pool((10, None)), 10, "no_account_can_log_in"),
        (pool((10, None), (25, None)), 25, "no_account_can_log_in"),
        (pool((None, None)), 0, "no_account_can_log_in"),
        (pool((10, 60)), 10, "accounts_rest_too_long"),
        (pool((10, 12)), None, "lasts"),
        (pool((10, 60), (5, 0)), None, "lasts"),
        (pool((10, 0), logins=failing_for(14)), 10, "logins_fail"),
        (pool((10, 0), logins=failing_for(6)), None, "lasts"),
        (pool((5, 0), logins=failing_for(6)), 5, "logins_fail"),
        (pool((None, 0), logins=[(0, False)]), None, "lasts"),
        (pool((None, 0), logins=[(0, False), (1, False)]), 0, "logins_fail"),
        (pool((10, 0), logins=[(n + 90, False) for n in range(20)]), None, "lasts"),
        (pool((10, 0), logins=[(n + 1_500, False) for n in range(20)]), None, "lasts"),
        (pool((10, 0), breaker_open=True), 10, "breaker_open"),
    ],
)
def test_the_forecast_of_a_pool(about, expected, reason):
    found = forecast.of_pool(about, site="s", at=AT)

    assert (found.exhausted_in_min, found.reason) == (expected, reason)


def test_an_outage_is_expected_to_last_as_long_again_as_it_has():
    soon = forecast.login_chance(failing_for_at(10), at=AT, by=minutes(10))
    later = forecast.login_chance(failing_for_at(10), at=AT, by=minutes(30))

    assert soon == pytest.approx(1 - 12 / 22, abs=0.001)
    assert later == pytest.approx(1 - 12 / 42, abs=0.001)


def test_failures_count_for_little_where_logins_fail_anyway():
    def after_two_failures(fails_one_in):
        past = [(minutes(-2 - n), n % fails_one_in > 0) for n in range(1, 100)]
        logins = [*past, (minutes(-1), False), (minutes(0), False)]
        return forecast.login_chance(logins, at=AT, by=AT)

    assert after_two_failures(2) > 0.5
    assert after_two_failures(20) < 0.05


def failing_for_at(n):
    return [(minutes(-ago), good) for ago, good in failing_for(n)]


def give_token(account, minutes):
    at = database_now()
    until = at + timedelta(minutes=minutes)
    StoredToken.objects.create(
        account=account, version=1, fingerprint="f", material={}, issued_at=at, expires_at=until,
        usable_until=until, refresh_after=until,
    )  # fmt: skip
    return at


def fail_logins(account, n, *, code="network_error", blame="network"):
    owner = Owner.take(cluster="default")
    at = database_now()
    for number in range(n):
        request = TokenRequest.objects.create(
            site=account.site, status="failed", reason=Reason.NO_TOKEN, queue=Queue.INTERACTIVE,
            order_at=at, not_before=at, expires_at=at, created_at=at,
        )  # fmt: skip
        LoginAttempt.objects.create(
            request=request, site=account.site, account=account, owner_id=owner.id, fence=1,
            credential_version=1, concurrency_at_start=1, started_at=at - timedelta(seconds=n),
            deadline=at, finished_at=at - timedelta(seconds=number), outcome="failed",
            error_code=code, blame=blame,
        )  # fmt: skip


def test_the_rows_of_a_site_are_read_as_selection_reads_them():
    site = make_site()
    account = make_account(site)
    at = give_token(account, 10)
    before = forecast.of_site(site, at=at)
    Account.objects.filter(pk=account.pk).update(needs_action="accept the new terms")

    after = forecast.of_site(site, at=at)

    assert (before.reason, before.accounts_able) == ("lasts", 1)
    assert (after.reason, after.exhausted_in_min) == ("no_account_can_log_in", 10)


def test_a_streak_of_failures_at_the_site_empties_the_pool():
    account = make_account(make_site())
    give_token(account, 1)
    fail_logins(account, 6)

    found = forecast.of_site(account.site, at=database_now())

    assert found.reason == "logins_fail"
    assert found.exhausted_in_min == pytest.approx(1, abs=0.1)


def test_wrong_passwords_are_the_accounts_and_no_outage():
    account = make_account(make_site())
    give_token(account, 1)
    fail_logins(account, 6, code="invalid_credentials", blame="credentials")

    assert forecast.of_site(account.site, at=database_now()).login_chance == 1.0


def test_an_open_breaker_empties_the_pool():
    account = make_account(make_site())
    at = give_token(account, 10)
    SiteBreaker.objects.create(site=account.site, state="open")

    assert forecast.of_site(account.site, at=at).reason == "breaker_open"


def test_nothing_is_forecast_of_a_closed_site_or_past_its_closing():
    account = make_account(make_site(), enabled=False)
    at = give_token(account, 30)
    site = account.site
    site.paused = True
    closed = forecast.of_site(site, at=at)
    site.paused = False
    soon = at + timedelta(minutes=20)
    site.closed_hours = [{"from": f"{soon:%H:%M}", "to": f"{soon - timedelta(hours=2):%H:%M}"}]

    closes = forecast.of_site(site, at=at)

    assert (closed.reason, closes.reason) == ("closed", "closes_before")
    assert closes.exhausted_in_min is None


def test_on_generated_days_few_exhaustions_are_missed_and_alarms_mean_something(capsys):
    histories = [days.generated(seed) for seed in range(60)]

    ours = forecast_replay.score(histories)
    plain = forecast_replay.score(histories, forecaster=forecast_replay.by_expiry)
    print(f"ours:   {ours}\nplain:  {plain}")

    assert ours.exhaustions > 50
    assert ours.recall >= 0.9
    assert ours.precision >= 0.9
    assert ours.false_alarms <= 0.1 * plain.false_alarms
    assert ours.lead_min >= 4


def test_on_calm_days_nobody_is_alarmed():
    score = forecast_replay.score(days.generated(seed, "calm") for seed in range(20))

    assert (score.exhaustions, score.alarms) == (0, 0)


def moments(minutes_left):
    return [
        forecast_replay.Moment(at=minutes(n), minutes=left, empty=False)
        for n, left in enumerate(minutes_left)
    ]


@pytest.mark.parametrize(
    ("minutes_left", "alerts"),
    [
        ([5, None, 5, None, None, None], []),
        ([5, 5, None, None, None], [(1, 4)]),
        ([5, 5, None, None, 5, 5, None, None, None], [(1, 8)]),
        ([5, 5, 15.5, 15.5, 15.5], [(1, 4)]),
        ([None, 5, 5, 5], [(2, 3)]),
    ],
)
def test_alarms_are_raised_and_ended_as_the_shipped_rule_does(minutes_left, alerts):
    found = list(forecast_replay.alarms(moments(minutes_left), within_min=15))

    assert found == [(minutes(a), minutes(b)) for a, b in alerts]


def test_a_score_counts_what_it_says():
    day = forecast_replay.History(
        name="one",
        accounts=("a",),
        life=timedelta(minutes=60),
        logins=(
            forecast_replay.Login(at=minutes(0), account="a", good=True),
            forecast_replay.Login(at=minutes(45), account="a", good=False, blocks=True),
        ),
        since=minutes(0),
        until=minutes(120),
    )

    never = forecast_replay.score([day], forecaster=lambda pool, at: None)
    always = forecast_replay.score([day], forecaster=lambda pool, at: 1.0)
    ours = forecast_replay.score([day])

    assert (never.exhaustions, never.missed, never.alarms) == (1, 1, 0)
    assert (always.missed, always.alarms, always.false_alarms) == (0, 1, 0)
    assert (ours.missed, ours.alarms, ours.false_alarms, ours.lead_min) == (0, 1, 0, 14.0)


def test_recorded_history_is_replayed_and_scored():
    account = make_account(make_site())
    fail_logins(account, 3)
    out = StringIO()

    call_command("score_forecast", "--days", "1", stdout=out)

    assert out.getvalue().startswith("court_zxfw: ")
    assert "3 logins" in out.getvalue()


def test_the_endpoint_tells_the_forecast_of_a_site(api):  # noqa: F811 - a fixture
    account = make_account(make_site(), enabled=False)
    give_token(account, 10)

    found = api().get("performance/forecast?site_name=court_zxfw")
    unknown = api().get("performance/forecast?site_name=nowhere")
    nothing = api().get("performance/forecast")

    assert found.json["reason"] == "no_account_can_log_in"
    assert found.json["exhausted_in_min"] == pytest.approx(10, abs=0.1)
    assert [unknown.status, nothing.status] == [404, 400]
