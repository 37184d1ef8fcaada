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


GOOD_THEN_BAD = [(n, n > 6) for n in range(1, 20)]


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
        (pool((10, 0), logins=GOOD_THEN_BAD), 10, "logins_fail"),
        (pool((10, 0), logins=[(n, n > 3) for n in range(1, 20)]), None, "lasts"),
        (pool((10, 0), logins=[(n + 90, False) for n in range(20)]), None, "lasts"),
        (pool((10, 0), breaker_open=True), 10, "breaker_open"),
    ],
)
def test_the_forecast_of_a_pool(about, expected, reason):
    found = forecast.of_pool(about, site="s", at=AT)

    assert (found.exhausted_in_min, found.reason) == (expected, reason)


def give_token(account, minutes):
    at = database_now()
    until = at + timedelta(minutes=minutes)
    StoredToken.objects.create(
        account=account, version=1, fingerprint="f", material={}, issued_at=at, expires_at=until,
        usable_until=until, refresh_after=until,
    )  # fmt: skip
    return at


def fail_logins(account, n, *, code="network_error"):
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
            error_code=code, blame="network",
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
    give_token(account, 10)
    fail_logins(account, 6)

    found = forecast.of_site(account.site, at=database_now())

    assert found.reason == "logins_fail"
    assert found.exhausted_in_min == pytest.approx(10, abs=0.1)


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
    days = [forecast_replay.generated(seed) for seed in range(60)]

    ours = forecast_replay.score(days)
    plain = forecast_replay.score(days, forecaster=forecast_replay.by_expiry)
    print(f"ours:   {ours}\nplain:  {plain}")

    assert ours.exhaustions > 50
    assert ours.missed <= 0.1 * ours.exhaustions
    assert ours.false_alarms <= 0.55 * ours.alarms
    assert ours.false_alarms <= 0.3 * plain.false_alarms
    assert ours.lead_min >= 5


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
    assert (ours.missed, ours.alarms, ours.false_alarms, ours.lead_min) == (0, 1, 0, 15.0)


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
