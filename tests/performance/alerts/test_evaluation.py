"""When alerts open, get worse and end."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from apps.performance.models import Alert, AlertRule, AlertRuleState, NotificationDelivery
from apps.performance.models.alerts import Severity
from apps.performance.services import alerting, evaluation
from apps.tokens.models import AdmissionLimits, Site
from tests.tokens.factories import make_site


def only():
    return Alert.objects.get()


def test_a_bad_value_opens_one_alert_however_long_it_lasts(watch, make_rule):
    make_rule()

    for value in (130.0, 140.0, 150.0):
        watch.sees(value)

    alert = only()
    assert (alert.value, alert.opened_value, alert.state) == (150.0, 130.0, "open")
    assert alert.severity == Severity.MEDIUM


def test_a_good_value_ends_it(watch, make_rule):
    make_rule()
    watch.sees(130.0)

    watch.sees(100.0)

    assert only().state == "resolved"
    assert only().resolved_reason == alerting.RECOVERED


def test_a_value_past_one_and_a_half_times_raises_it_and_undoes_the_acknowledgement(
    watch, make_rule
):
    make_rule()
    watch.sees(130.0)
    alerting.acknowledge(only(), by="anna", at=watch.at)

    watch.sees(181.0)

    assert (only().severity, only().state) == (Severity.HIGH, "open")


def test_the_severity_of_an_open_alert_never_falls(watch, make_rule):
    make_rule()
    watch.sees(181.0)

    watch.sees(130.0)

    assert only().severity == Severity.HIGH


def test_nothing_opens_before_the_value_was_bad_for_as_long_as_the_rule_says(watch, make_rule):
    make_rule(for_s=120)

    watch.sees(130.0)
    watch.sees(130.0)
    early = Alert.objects.count()
    watch.sees(130.0)

    assert (early, Alert.objects.count()) == (0, 1)


def test_a_good_value_in_between_starts_the_waiting_anew(watch, make_rule):
    make_rule(for_s=120)

    for value in (130.0, 130.0, 100.0, 130.0, 130.0):
        watch.sees(value)

    assert not Alert.objects.exists()


def test_a_value_around_the_threshold_does_not_flap(watch, make_rule):
    make_rule(clear_margin=0.05)

    for value in (121.0, 119.0, 121.0, 118.0, 122.0, 119.5):
        watch.sees(value)

    assert only().state == "open"


def test_an_alert_ends_only_after_the_value_was_good_for_long_enough(watch, make_rule):
    make_rule(clear_for_s=120)
    watch.sees(130.0)

    watch.sees(100.0)
    watch.sees(100.0)
    early = only().state
    watch.sees(100.0)

    assert (early, only().state) == ("open", "resolved")


def test_too_few_observations_open_nothing(watch, make_rule):
    make_rule(minimum=5)

    watch.sees(1_000.0, observations=4)
    watch.sees(None, observations=0)

    assert not Alert.objects.exists()


def test_too_few_observations_end_nothing_until_an_hour_has_passed(watch, make_rule):
    make_rule(minimum=5)
    watch.sees(130.0)

    watch.sees(0.0, observations=4)
    soon = only().state
    for _ in range(21):
        watch.sees(None, observations=0, after_s=175)

    assert soon == "open"
    assert (only().state, only().resolved_reason) == ("resolved", alerting.NO_DATA)


def test_each_site_has_an_alert_of_its_own(watch, make_rule):
    make_site("a")
    make_site("b")
    make_rule(site="*")
    watch.readings.set(130.0, site="a")
    watch.readings.set(100.0, site="b")

    watch.looks()

    assert only().site == "a"


CLOSED_ON_MONDAY = [{"days": ["mon"], "from": "00:00", "to": "24:00"}]


def test_nothing_fires_for_a_site_in_its_closed_hours(watch, make_rule):
    make_site("a", closed_hours=CLOSED_ON_MONDAY)
    make_rule(site="*")
    make_rule(name="that one", site="a")
    make_rule(name="all as one")

    watch.readings.set(500.0, site="a")
    watch.readings.set(500.0)
    looked_at = watch.looks()

    assert looked_at == 0
    assert not Alert.objects.exists()


@pytest.mark.parametrize("paused", ["site", "all"])
def test_nothing_fires_for_what_is_paused(watch, make_rule, paused):
    site = make_site("a")
    make_rule(site="a")
    if paused == "site":
        Site.objects.filter(pk=site.pk).update(paused=True)
    else:
        AdmissionLimits.objects.create(pk=1, paused=True)

    watch.sees(500.0, site="a")

    assert not Alert.objects.exists()


def test_an_open_alert_outlasts_the_closed_hours(watch, make_rule):
    site = make_site("a")
    make_rule(site="a")
    watch.sees(130.0, site="a")
    Site.objects.filter(pk=site.pk).update(closed_hours=CLOSED_ON_MONDAY)

    watch.sees(0.0, site="a")

    assert only().state == "open"


def test_time_that_nobody_watched_does_not_count(watch, make_rule):
    make_rule(for_s=600)
    watch.sees(130.0)

    watch.sees(130.0, after_s=3_600)

    assert not Alert.objects.exists()


def test_the_machine_is_watched_while_all_sites_are_closed(watch, make_rule):
    make_site("a", closed_hours=CLOSED_ON_MONDAY)
    make_rule(metric="memory_percent", threshold=80)

    watch.sees(90.0)

    assert only().metric == "memory_percent"


@pytest.mark.parametrize("metric", ["cache_hit_rate", "retrieve_p95_ms", "store_p95_ms"])
def test_what_callers_find_is_not_judged_while_all_sites_are_closed(watch, make_rule, metric):
    """Every token ends overnight, so every read of one misses."""
    make_site("a", closed_hours=CLOSED_ON_MONDAY)
    make_rule(metric=metric, direction="below", threshold=70)

    watch.sees(10.0)

    assert not Alert.objects.exists()


def test_an_alert_ends_when_its_rule_is_switched_off(watch, make_rule):
    rule = make_rule()
    watch.sees(130.0)
    AlertRule.objects.filter(pk=rule.pk).update(enabled=False)

    watch.looks()

    assert only().resolved_reason == alerting.RULE_CHANGED


def test_an_alert_ends_when_its_site_is_gone(watch, make_rule):
    site = make_site("a")
    make_rule(site="*")
    watch.sees(130.0, site="a")
    site.delete()

    watch.looks()

    assert only().state == "resolved"


def test_a_resolved_alert_is_opened_again_as_another(watch, make_rule):
    make_rule()
    watch.sees(130.0)
    alerting.resolve(only(), at=watch.at, reason=alerting.BY_HAND, by="anna")

    watch.sees(130.0)

    assert [alert.state for alert in Alert.objects.all()] == ["open", "resolved"]


def test_a_reading_that_fails_keeps_no_other_rule_from_its_own(watch, make_rule):
    make_rule(name="broken", metric="success_rate", direction="below")
    make_rule(name="whole")
    whole = watch.readings.read

    def read(metric, **where):
        if metric == "success_rate":
            raise KeyError(metric)
        return whole(metric, **where)

    watch.readings.read = read

    watch.sees(130.0)

    assert only().rule_name == "whole"


def test_the_database_refuses_a_second_open_alert(watch, make_rule):
    make_rule()
    watch.sees(130.0)
    copy = only()
    copy.pk = None
    copy._state.adding = True

    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save()


def test_every_step_is_told_once(watch, make_rule, make_channel):
    make_channel()
    make_rule()

    for value in (130.0, 135.0, 190.0, 195.0, 100.0, 90.0):
        watch.sees(value)

    told = NotificationDelivery.objects.order_by("created_at").values_list("event", flat=True)
    assert list(told) == ["opened", "raised", "resolved"]


def test_who_wants_only_worse_alerts_hears_of_them_when_they_are(watch, make_rule, make_channel):
    make_channel(minimum_severity=Severity.HIGH)
    make_rule()

    watch.sees(130.0)
    before = NotificationDelivery.objects.count()
    watch.sees(190.0)
    watch.sees(10.0)

    told = NotificationDelivery.objects.order_by("created_at").values_list("event", flat=True)
    assert (before, list(told)) == (0, ["raised", "resolved"])


def test_who_was_not_told_of_an_alert_is_not_told_of_its_end(watch, make_rule, make_channel):
    make_channel(site="a")
    make_rule()

    watch.sees(130.0)
    watch.sees(10.0)

    assert not NotificationDelivery.objects.exists()


def test_a_turn_is_taken_once_until_it_is_due_again(watch):
    every = timedelta(seconds=60)

    taken = [
        evaluation.take_turn("t", at=watch.at + timedelta(seconds=s), every=every)
        for s in (0, 10, 50, 60, 61, 130)
    ]

    assert taken == [True, False, False, True, False, True]


def test_a_clock_that_is_put_back_holds_up_no_turn(watch):
    every = timedelta(seconds=60)

    taken = [
        evaluation.take_turn("t", at=watch.at + timedelta(seconds=s), every=every)
        for s in (0, -3_600, -3_590, -3_540)
    ]

    assert taken == [True, True, False, True]


def test_what_was_seen_before_the_clock_was_put_back_is_forgotten(watch, make_rule):
    make_rule(for_s=120)
    watch.sees(130.0)

    watch.sees(130.0, after_s=-3_600)
    watch.sees(130.0)
    early = Alert.objects.count()
    watch.sees(130.0)

    assert (early, Alert.objects.count()) == (0, 1)


def test_who_resolves_an_alert_while_it_is_looked_at_stops_no_evaluation(
    watch, make_rule, monkeypatch
):
    make_rule()
    watch.sees(130.0)
    first = only()
    really = alerting._open

    def open_(finding, *, at):
        found = really(finding, at=at)
        alerting.resolve(first, at=at, reason=alerting.BY_HAND, by="anna")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(alerting, "_open", open_)
        watch.sees(140.0)
    told = AlertRuleState.objects.get()
    watch.sees(150.0)

    assert (told.value, told.checked_at < watch.at) == (140.0, True)
    assert [alert.opened_value for alert in Alert.objects.order_by("pk")] == [130.0, 150.0]


def test_the_last_value_is_kept_for_people(watch, make_rule):
    make_rule()

    watch.sees(42.0, observations=7)

    state = AlertRuleState.objects.get()
    assert (state.value, state.observations, state.checked_at) == (42.0, 7, watch.at)


def test_acknowledging_twice_keeps_the_first(watch, make_rule):
    make_rule()
    watch.sees(130.0)

    first = alerting.acknowledge(only(), by="anna", at=watch.at, note="on it")
    second = alerting.acknowledge(only(), by="ben", at=watch.at)

    assert (first, second, only().acknowledged_by) == (True, False, "anna")


def test_what_is_over_cannot_be_acknowledged(watch, make_rule):
    make_rule()
    watch.sees(130.0)
    watch.sees(10.0)

    with pytest.raises(alerting.AlertResolved):
        alerting.acknowledge(only(), by="anna", at=watch.at)
