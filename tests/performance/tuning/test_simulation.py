"""Recorded history under other limits."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.common.errors import ValidationFailed
from apps.performance.services.simulation import Limits, simulate
from apps.tokens.errors import InvalidCredentials
from apps.tokens.models import TokenRequest
from apps.tokens.models.requests import Queue, Status
from tests.performance.tuning.rows import add_level, add_login, owner
from tests.tokens.factories import make_account, make_site


@pytest.fixture
def site():
    return make_site()


@pytest.fixture
def account(site):
    for name in ("bob", "carol", "dave"):
        make_account(site, name)
    return make_account(site)


def limits(n, *, over_all=10, reserved=0, **sites):
    return Limits(
        max_concurrent=over_all, max_concurrent_per_site=n, reserved_for_interactive=reserved,
        sites=sites,
    )  # fmt: skip


def burst(site, account, count=4, *, took_s=10.0, **fields):
    """Requests at the same moment, ten minutes ago."""
    by = owner()
    for number in range(count):
        add_login(site, account, asked_s_ago=600 - number / 1_000, took_s=took_s, by=by, **fields)


def test_one_at_a_time_makes_a_queue_that_more_at_once_do_not(site, account):
    burst(site, account)

    one, four = simulate(limits(1), 3_600), simulate(limits(4), 3_600)

    assert one.proposed.mean_wait_s == pytest.approx(15, abs=0.1)  # 0, 10, 20, 30
    assert one.proposed.max_wait_s == pytest.approx(30, abs=0.1)
    assert four.proposed.max_wait_s == 0
    assert four.busiest == {site.slug: 4}


def test_the_present_limits_are_replayed_beside(site, account):
    burst(site, account)

    found = simulate(limits(1), 3_600)

    assert found.recorded.mean_wait_s == 0  # as the rows say
    assert found.present.mean_wait_s == pytest.approx(5, abs=0.1)  # two at once: 0, 0, 10, 10


def test_the_limit_over_all_sites_holds(site, account):
    other = make_site("other")
    burst(site, account, 2)
    burst(other, make_account(other), 2)

    found = simulate(limits(4, over_all=1), 3_600)

    assert found.proposed.max_wait_s == pytest.approx(30, abs=0.1)


def test_a_site_without_a_second_account_gains_nothing(site):
    burst(site, make_account(site))

    assert simulate(limits(4), 3_600).proposed.max_wait_s == pytest.approx(30, abs=0.1)


def test_background_work_leaves_a_permit_free(site, account):
    burst(site, account, 2, queue=Queue.BATCH)

    found = simulate(limits(2, reserved=1), 3_600)

    assert found.proposed.max_wait_s == pytest.approx(10, abs=0.1)


def test_a_person_goes_before_a_batch_that_asked_at_the_same_time(site, account):
    burst(site, account, 3, queue=Queue.BATCH)
    add_login(site, account, asked_s_ago=599)

    assert simulate(limits(1), 3_600).proposed.p50_wait_s == pytest.approx(20, abs=0.2)
    (waits,) = [simulate(limits(1), 3_600).by_site[site.slug]]
    assert waits.requests == 4


def test_who_waits_too_long_would_not_have_been_served(site, account):
    burst(site, account, 3, took_s=200)

    found = simulate(limits(1), 3_600)

    assert (found.proposed.served, found.proposed.expired) == (2, 1)


def test_an_expired_request_might_have_been_served(site, account):
    burst(site, account, 1)
    burst(site, account, 1)
    lost = TokenRequest.objects.first()
    lost.logins.all().delete()
    TokenRequest.objects.filter(pk=lost.pk).update(
        status=Status.EXPIRED, started_at=None, attempts=0
    )

    found = simulate(limits(4), 3_600)

    assert (found.recorded.expired, found.proposed.expired) == (1, 0)
    assert found.proposed.served == 2


def test_failures_stay_failures(site, account):
    burst(site, account, 1, error=InvalidCredentials)

    assert simulate(limits(4), 3_600).proposed.failed == 1


def test_a_request_cancelled_after_a_login_is_in_one_column_everywhere(site, account):
    burst(site, account, 3)
    left = TokenRequest.objects.first()
    TokenRequest.objects.filter(pk=left.pk).update(status=Status.CANCELLED)

    found = simulate(limits(4), 3_600)

    for figures in (found.recorded, found.present, found.proposed, found.by_site[site.slug]):
        assert (figures.requests, figures.served, figures.cancelled) == (3, 2, 1)


def test_refusals_are_the_limits_doing_and_not_played_again(site, account):
    """At three at once half were refused: under a limit of one, none would have been."""
    add_level(site, account, 1, logins=20, ago_s=3_500)
    add_level(site, account, 3, logins=20, refused=10, ago_s=2_000)
    burst(site, account, 12, level=1)

    one, three = simulate(limits(1), 4_000), simulate(limits(3), 4_000)

    assert one.recorded.failed == 10
    assert (one.proposed.failed, one.expected_rejections) == (0, 0)
    assert (three.proposed.failed, three.expected_rejections) == (5, 5)  # the last ten of twelve
    assert three.proposed.served == 47


def test_a_refusal_that_was_tried_again_is_not_a_failure(site, account):
    add_level(site, account, 1, logins=20, refused=10, ago_s=3_500)
    TokenRequest.objects.update(status=Status.DONE)

    found = simulate(limits(1), 4_000)

    assert found.expected_rejections == 10
    assert (found.proposed.served, found.proposed.failed) == (20, 0)


def test_what_nobody_has_recorded_is_not_promised(site, account):
    burst(site, account, level=1)

    found = simulate(limits(4), 3_600)

    assert found.beyond_evidence == 3  # began with two, three and four at once


def test_refusals_are_expected_at_the_rate_that_was_seen(site, account):
    add_level(site, account, 1, logins=20, ago_s=3_500)
    add_level(site, account, 2, logins=20, refused=10, ago_s=3_500)
    burst(site, account, 2, level=1)

    calm, crowded = simulate(limits(1), 4_000), simulate(limits(2), 4_000)

    assert calm.expected_rejections == 0
    assert crowded.expected_rejections > 0.4


def test_slower_levels_make_longer_waits(site, account):
    add_level(site, account, 1, logins=5, took_s=10, ago_s=3_500)
    add_level(site, account, 2, logins=5, took_s=30, ago_s=3_000)
    burst(site, account, 4, took_s=10, level=1)

    assert simulate(limits(2), 4_000).proposed.max_wait_s > 25


def test_quick_refusals_do_not_make_shorter_logins(site, account):
    add_level(site, account, 1, logins=20, ago_s=3_500)
    add_level(site, account, 2, logins=20, refused=10, refused_took_s=0.3, ago_s=2_000)
    burst(site, account, 20, level=1)

    assert simulate(limits(2), 4_000).proposed.max_wait_s == pytest.approx(90, abs=0.1)


def test_a_replay_is_the_same_each_time(site, account):
    burst(site, account)

    assert simulate(limits(2), 3_600).proposed == simulate(limits(2), 3_600).proposed


def test_two_replays_read_the_logins_once(site, account):
    burst(site, account)

    with CaptureQueriesContext(connection) as queries:
        simulate(limits(2), 3_600)

    read = [one["sql"] for one in queries if 'FROM "tokens_loginattempt"' in one["sql"]]
    assert len(read) == 2  # as evidence, and as what is played


@pytest.mark.parametrize(("tried", "window_s"), [(limits(0), 600), (limits(1), 10)])
def test_nonsense_is_refused(db, tried, window_s):
    with pytest.raises(ValidationFailed):
        simulate(tried, window_s)


def told(*arguments):
    out = StringIO()
    call_command("simulate_limits", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_tells_what_the_api_tells(site, account):
    burst(site, account)

    found = json.loads(told("--site", f"{site.slug}=1", "--max-concurrent", "10", "--json"))
    table = told("--site", f"{site.slug}=1", "--max-concurrent", "10")

    assert found["proposed"]["mean_wait_s"] == pytest.approx(15, abs=0.1)
    assert found["busiest"] == {site.slug: 1}
    (proposed,) = (line for line in table.splitlines() if line.startswith("proposed"))
    assert proposed.split()[2:4] == ["4", "4"]
    assert "15.0 s" in proposed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--site", "court_zxfw"], "SLUG=N"),
        (["--site", "nowhere=2"], "no such site"),
        (["--max-concurrent", "-1"], "max_concurrent"),
        (["--hours", "0.001"], "window_s"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(site, arguments, says):
    with pytest.raises(CommandError, match=says):
        told(*arguments)
