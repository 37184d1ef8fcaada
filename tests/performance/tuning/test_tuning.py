"""Recommendations from recorded rows; applying them and taking them back."""

import pytest

from apps.common.errors import BusinessRuleViolated
from apps.performance.models import LimitChange, TuningBounds
from apps.performance.services import evidence, tuning
from apps.performance.services.tuning_queueing import servers_for, waiting_share
from apps.tokens.errors import InvalidCredentials
from apps.tokens.models import AdmissionLimits, Site
from tests.performance.tuning.rows import add_level, add_login, owner
from tests.tokens.factories import make_account, make_site


@pytest.fixture
def site():
    return make_site(max_concurrent=3)


@pytest.fixture
def account(site):
    return make_account(site)


def of(site):
    return next(one for one in tuning.analyze() if one.site == site.slug)


def test_without_evidence_nothing_is_recommended(site):
    found = of(site)

    assert not found.changes
    assert "fewer than 12 logins" in found.reason


def test_a_level_that_is_refused_lowers_the_limit_and_says_how_often(site, account):
    add_level(site, account, 2)
    add_level(site, account, 3, refused=5)

    found = of(site)

    assert found.recommended == 2
    assert "refused 25% of 20 logins" in found.reason
    assert [(level["concurrency"], level["rejected"]) for level in found.numbers["levels"]] == [
        (2, 0),
        (3, 5),
    ]


@pytest.mark.parametrize(("level", "limits"), [(3, [2, 2]), (1, [1, 1]), (6, [3, 3])])
def test_where_the_only_level_known_is_refused_the_limit_stays_below(site, account, level, limits):
    more_accounts(site, 9)
    add_level(site, account, level, logins=40, refused=20)
    demand(site, account, level=level)

    assert "refused 5% of 440 logins" in of(site).reason
    assert limits_by_applying(site, 2) == limits


def test_a_level_that_brings_nothing_lowers_the_limit(site, account):
    add_level(site, account, 2, took_s=10)
    add_level(site, account, 3, took_s=15)

    assert of(site).recommended == 2


def demand(site, account, *, level):
    """As many logins as keep some seven busy, for twenty minutes: ten by the clock are in them."""
    by = owner()
    for number in range(400):
        add_login(site, account, asked_s_ago=6_000 - number * 3, took_s=20, level=level, by=by)


def more_accounts(site, count):
    for number in range(count):
        make_account(site, f"more{number}")


def test_demand_raises_the_limit_by_one_past_what_was_ever_tried(site, account):
    more_accounts(site, 9)
    add_level(site, account, 3)
    demand(site, account, level=3)

    found = of(site)

    assert found.recommended == 4
    assert "up to 3 at once were tried" in found.reason


def test_a_limit_is_not_raised_twice_by_the_same_evidence(site, account):
    more_accounts(site, 9)
    demand(site, account, level=3)
    tuning.apply(tuning.analyze(), by="ann")

    found = of(site)

    assert (found.effective, found.recommended) == (4, 4)
    assert "Keep 4" in found.reason


def test_a_limit_is_not_raised_past_the_accounts_that_may_log_in(site, account):
    more_accounts(site, 2)
    make_account(site, "left", enabled=False)
    demand(site, account, level=3)

    found = of(site)

    assert not found.changes
    assert "accounts that are enabled: 3" in found.reason


def limits_by_applying(site, times):
    """The limit after each time that what is recommended was set, and nothing new recorded."""
    found = []
    for _ in range(times):
        tuning.apply(tuning.analyze(), by="cron")
        found.append(Site.objects.get(pk=site.pk).max_concurrent)
    return found


def test_a_limit_is_not_raised_again_to_what_was_refused(site, account):
    Site.objects.update(max_concurrent=6)
    more_accounts(site, 9)
    for level in (1, 2, 3):
        add_level(site, account, level, took_s=20)
    add_level(site, account, 6, logins=40, refused=16)
    demand(site, account, level=4)

    assert limits_by_applying(site, 4) == [4, 5, 5, 5]
    assert "with 6 at once the site refused 40% of 40 logins" in of(site).reason


def test_a_limit_is_not_raised_again_to_what_brought_nothing(site, account):
    Site.objects.update(max_concurrent=4)
    more_accounts(site, 9)
    demand(site, account, level=3)
    add_level(site, account, 4, took_s=40)

    assert limits_by_applying(site, 3) == [3, 3, 3]
    assert "4 at once bring" in of(site).reason


def test_one_refusal_of_few_logins_is_enough_not_to_raise(site, account):
    """As the automatic mode leaves it: it has tried one more once, and gone back."""
    more_accounts(site, 9)
    demand(site, account, level=3)
    add_level(site, account, 4, logins=1, refused=1)

    found = of(site)

    assert not found.changes
    assert "with 4 at once the site refused 100% of 1 logins" in found.reason


def test_a_quiet_site_keeps_its_limit(site, account):
    add_level(site, account, 1)

    assert not of(site).changes


def test_an_accounts_fault_is_no_word_on_the_site(site, account):
    add_level(site, account, 2)
    add_level(site, account, 3)
    by = owner()
    for number in range(50):
        add_login(
            site, account, asked_s_ago=9_000 + number, took_s=10, level=3,
            error=InvalidCredentials, by=by,
        )  # fmt: skip

    assert not of(site).changes


def test_refreshes_are_not_taken_for_logins(site, account):
    by = owner()
    for number in range(50):
        add_login(site, account, asked_s_ago=900 + number, took_s=0.1, refresh=True, by=by)

    assert of(site).numbers["logins"] == 0


@pytest.mark.parametrize(("most", "least"), [(30, 1), (2, 15)])
def test_a_busy_site_does_not_hide_a_quiet_one(site, account, most, least, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_ROWS", most)  # two sites, so half of it each
    monkeypatch.setattr(evidence, "LEAST_ROWS", least)
    add_level(site, account, 2, logins=12)
    busy = make_site("busy")
    add_level(busy, make_account(busy), 1, logins=20, ago_s=3_000)

    numbers = {one.site: one.numbers for one in tuning.analyze() if one.site}

    assert (numbers[site.slug]["logins"], numbers[site.slug]["requests"]) == (12, 12)
    assert (numbers["busy"]["logins"], numbers["busy"]["requests"]) == (15, 15)


def test_recommendations_keep_to_the_bounds(site, account):
    TuningBounds.objects.create(site=site, lowest=3, highest=8)
    add_level(site, account, 2)
    add_level(site, account, 3, refused=9)

    found = of(site)

    assert not found.changes
    assert "bounds allow 3 to 8" in found.reason


def test_the_limit_over_all_sites_makes_room_for_busy_sites():
    by = owner()
    for slug in ("one", "two", "three"):
        site = make_site(slug, max_concurrent=2)
        account = make_account(site)
        add_level(site, account, 2, by=by)
        for number in range(60):
            add_login(site, account, asked_s_ago=6_000 - number * 9, took_s=15, level=2, by=by)

    found = tuning.analyze()[-1]

    assert (found.site, found.present) == ("", 3)
    assert 5 <= found.recommended <= 9


def test_applying_sets_the_limit_and_records_the_change(site, account):
    add_level(site, account, 2)
    add_level(site, account, 3, refused=5)

    (change,) = tuning.apply(tuning.analyze(), by="ann")

    assert Site.objects.get(pk=site.pk).max_concurrent == 2
    assert (change.site, change.before, change.after, change.by) == (site.slug, 3, 2, "ann")
    assert change.numbers["logins"] == 40


def test_a_limit_that_somebody_changed_meanwhile_is_left_alone(site, account):
    add_level(site, account, 2)
    add_level(site, account, 3, refused=5)
    found = tuning.analyze()
    Site.objects.filter(pk=site.pk).update(max_concurrent=7)

    assert tuning.apply(found, by="ann") == ()
    assert Site.objects.get(pk=site.pk).max_concurrent == 7


def test_a_change_can_be_taken_back_once(site):
    change = tuning.change_limit(site=site.slug, before=3, after=5, reason="r", by="ann")

    tuning.revert(change, by="bob")

    assert Site.objects.get(pk=site.pk).max_concurrent == 3
    assert LimitChange.objects.get(reverts=change).by == "bob"
    Site.objects.filter(pk=site.pk).update(max_concurrent=5)
    with pytest.raises(BusinessRuleViolated):
        tuning.revert(change, by="bob")


def test_no_own_number_comes_back_as_no_own_number():
    site = make_site()
    change = tuning.change_limit(site=site.slug, before=None, after=5, reason="r", by="ann")

    tuning.revert(change, by="bob")

    assert Site.objects.get(pk=site.pk).max_concurrent is None


def test_a_change_that_was_overtaken_cannot_be_taken_back(site):
    change = tuning.change_limit(site=site.slug, before=3, after=5, reason="r", by="ann")
    Site.objects.filter(pk=site.pk).update(max_concurrent=6)

    with pytest.raises(BusinessRuleViolated):
        tuning.revert(change, by="bob")

    assert Site.objects.get(pk=site.pk).max_concurrent == 6


def test_the_limit_over_all_sites_changes_where_nobody_made_the_row_yet():
    change = tuning.change_limit(site="", before=3, after=6, reason="r", by="ann")

    assert change is not None
    assert AdmissionLimits.current().max_concurrent == 6


def test_the_waits_of_erlang_c():
    """Known values: load 2, 3 servers waits 0.4444 service times; load 0.5, 1 server waits 1."""
    assert waiting_share(0.5, 1) == pytest.approx(1.0)
    assert waiting_share(2.0, 3) == pytest.approx(0.4444, abs=1e-4)
    assert waiting_share(3.0, 3) == float("inf")
    assert servers_for(2.0) == 4
