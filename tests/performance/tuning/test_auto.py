"""The automatic mode: from ended logins to the limit that admission reads."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.common.clock import now
from apps.performance.models import LimitChange, TuningBounds, TuningState
from apps.performance.services import tuning_auto
from apps.performance.services.tuning_control import Bounds, State
from apps.tokens.errors import RateLimited, SiteUnavailable
from apps.tokens.models import AdmissionLimits, LoginAttempt, Site
from tests.performance.tuning.rows import add_login, owner
from tests.tokens.factories import make_account, make_site

WIDE = Bounds(lowest=1, highest=10)


@pytest.fixture
def site():
    site = make_site(max_concurrent=3)
    TuningBounds.objects.create(site=site, automatic=True, lowest=1, highest=10)
    memory = State(limit=3).as_data()
    TuningState.objects.create(site=site, read_to=now() - timedelta(hours=3), memory=memory)
    return site


@pytest.fixture
def account(site):
    return make_account(site)


def end_logins(site, account, count, *, level, error=None, ago_s=3_000):
    by = owner()
    for number in range(count):
        add_login(
            site, account, asked_s_ago=ago_s - number, level=level, took_s=10, error=error, by=by
        )


def limit_of(site):
    return Site.objects.get(pk=site.pk).max_concurrent


def test_a_dozen_logins_at_the_limit_try_one_more(site, account):
    end_logins(site, account, 12, level=3)

    (change,) = tuning_auto.adapt_all()

    assert limit_of(site) == 4
    assert (change.before, change.after, change.automatic, change.by) == (3, 4, True, "")
    assert "4 at once" in change.reason


def test_logins_are_taken_in_once(site, account):
    end_logins(site, account, 12, level=3)
    tuning_auto.adapt_all()

    assert tuning_auto.adapt_all() == ()
    assert limit_of(site) == 4


def test_a_refusal_lowers_the_limit_at_once(site, account):
    end_logins(site, account, 1, level=3, error=RateLimited)

    tuning_auto.adapt_all()

    assert limit_of(site) == 2


def test_an_overloaded_answer_ends_a_probe_but_not_a_settled_limit(site, account):
    end_logins(site, account, 1, level=3, error=SiteUnavailable)
    tuning_auto.adapt_all()
    assert limit_of(site) == 3
    end_logins(site, account, 12, level=3, ago_s=2_000)
    tuning_auto.adapt_all()
    assert limit_of(site) == 4

    end_logins(site, account, 1, level=4, error=SiteUnavailable, ago_s=1_000)
    tuning_auto.adapt_all()

    assert limit_of(site) == 3


def test_the_rest_that_a_refused_try_costs_is_remembered(site, account):
    end_logins(site, account, 12, level=3)
    tuning_auto.adapt_all()
    end_logins(site, account, 1, level=4, error=RateLimited, ago_s=1_000)
    refused = LoginAttempt.objects.latest("finished_at")
    Site.objects.update(cooldown_until=refused.finished_at + timedelta(seconds=300))

    tuning_auto.adapt_all()

    memory = TuningState.objects.get().memory
    assert limit_of(site) == 3
    assert (memory["refused"], memory["rests_s"]) == (1, 300.0)


def test_a_site_without_automatic_bounds_is_left_alone(site, account):
    TuningBounds.objects.update(automatic=False)
    end_logins(site, account, 30, level=3)

    assert tuning_auto.adapt_all() == ()
    assert limit_of(site) == 3


def test_a_limit_outside_the_bounds_is_brought_inside(site):
    TuningBounds.objects.update(lowest=5)

    (change,) = tuning_auto.adapt_all()

    assert (limit_of(site), change.after) == (5, 5)


def test_a_persons_change_is_where_the_rule_goes_on(site, account):
    Site.objects.filter(pk=site.pk).update(max_concurrent=6)
    end_logins(site, account, 12, level=6)

    tuning_auto.adapt_all()

    assert limit_of(site) == 7


def test_of_two_hosts_that_read_the_same_logins_one_counts(site, account, monkeypatch):
    end_logins(site, account, 12, level=3)
    ended = tuning_auto._ended

    def read_while_another_host_is_faster(*args, **kwargs):
        rows = ended(*args, **kwargs)
        monkeypatch.setattr(tuning_auto, "_ended", ended)
        tuning_auto.adapt_sites({Site.objects.get(pk=site.pk): WIDE})
        return rows

    monkeypatch.setattr(tuning_auto, "_ended", read_while_another_host_is_faster)
    tuning_auto.adapt_sites({site: WIDE})

    assert limit_of(site) == 4
    assert LimitChange.objects.count() == 1


def test_the_slower_of_two_hosts_writes_nothing_over_what_the_other_learned(
    site, account, monkeypatch
):
    end_logins(site, account, 4, level=3)
    ended = tuning_auto._ended

    def read_while_another_host_is_faster(*args, **kwargs):
        monkeypatch.setattr(tuning_auto, "_ended", ended)
        rows = ended(*args, **kwargs)
        tuning_auto.adapt_sites({site: WIDE})
        return rows[:2]

    monkeypatch.setattr(tuning_auto, "_ended", read_while_another_host_is_faster)
    tuning_auto.adapt_sites({site: WIDE})

    state = TuningState.objects.get()
    assert (state.version, state.memory["since"]) == (1, 4)


def test_a_person_who_is_faster_keeps_the_limit(site, account, monkeypatch):
    end_logins(site, account, 12, level=3)
    Site.objects.filter(pk=site.pk).update(max_concurrent=8)

    tuning_auto.adapt_sites({site: WIDE})  # this row was read before the person's change

    assert limit_of(site) == 8
    assert TuningState.objects.get().version == 0


def test_the_limit_over_all_sites_follows_where_it_may(site):
    TuningBounds.objects.create(site=None, automatic=True, lowest=2, highest=5)
    other = make_site("other", max_concurrent=4)
    TuningBounds.objects.create(site=other, automatic=True)
    tuning_auto.adapt_all()

    assert AdmissionLimits.current().max_concurrent == 5  # 3 + 4, within the bounds


def test_the_limit_over_all_sites_is_not_lowered_to_what_one_site_takes(site):
    """The sites that do not adapt need their part of it."""
    TuningBounds.objects.create(site=None, automatic=True, lowest=1, highest=20)
    AdmissionLimits.objects.create(pk=1, max_concurrent=8)

    tuning_auto.adapt_all()

    assert AdmissionLimits.current().max_concurrent == 8


def test_many_sites_cost_no_more_queries_than_one(site, account):
    with CaptureQueriesContext(connection) as one:
        tuning_auto.adapt_all()
    for number in range(9):
        TuningBounds.objects.create(site=make_site(f"idle{number}"), automatic=True)
    tuning_auto.adapt_all()

    with CaptureQueriesContext(connection) as ten:
        tuning_auto.adapt_all()

    assert len(ten) == len(one)


def test_each_site_goes_on_from_where_it_was_read_to(site, account):
    other = make_site("other", max_concurrent=3)
    TuningBounds.objects.create(site=other, automatic=True)
    since = now() - timedelta(seconds=2_500)
    TuningState.objects.create(site=other, read_to=since, memory=State(limit=3).as_data())
    its = make_account(other)
    for one, whose in ((site, account), (other, its)):
        end_logins(one, whose, 12, level=3, ago_s=3_000)
    end_logins(other, its, 2, level=3, ago_s=2_000)

    tuning_auto.adapt_all()

    assert limit_of(site) == 4
    assert TuningState.objects.get(site=other).memory["since"] == 2


def test_it_begins_with_what_ends_from_now_on(site, account):
    TuningState.objects.all().delete()
    end_logins(site, account, 12, level=3)

    assert tuning_auto.adapt_all() == ()
    assert LoginAttempt.objects.count() == 12
