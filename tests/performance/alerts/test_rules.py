"""What a rule says about a value."""

import math

import pytest

from apps.performance.models.alerts import AlertRule, Severity
from apps.performance.services import alert_rules


def rule(metric, direction, threshold, severity=Severity.MEDIUM, **fields):
    return AlertRule(
        name="r", metric=metric, direction=direction, threshold=threshold, severity=severity,
        **fields,
    )  # fmt: skip


SUCCESS = ("success_rate", "below", 80.0)
TIMEOUTS = ("timeout_rate", "above", 10.0)
LASTS = ("pool_lasts_min", "below", 15.0)


@pytest.mark.parametrize(
    ("about", "value", "bad"),
    [
        (SUCCESS, 80.0, False),
        (SUCCESS, 79.9, True),
        (TIMEOUTS, 10.0, False),
        (TIMEOUTS, 10.1, True),
        (LASTS, 14.0, True),
        (LASTS, math.inf, False),
    ],
)
def test_the_threshold_itself_is_not_bad(about, value, bad):
    assert alert_rules.is_bad(rule(*about), value) is bad


@pytest.mark.parametrize(
    ("about", "value", "severity"),
    [
        (("mean_total_s", "above", 120.0), 180.0, Severity.MEDIUM),
        (("mean_total_s", "above", 120.0), 180.1, Severity.HIGH),
        (SUCCESS, 70.0, Severity.MEDIUM),  # 30 % of failures where 20 % are allowed
        (SUCCESS, 69.9, Severity.HIGH),
        (LASTS, 10.0, Severity.MEDIUM),
        (LASTS, 9.9, Severity.HIGH),
        (LASTS, 0.0, Severity.HIGH),
    ],
)
def test_past_one_and_a_half_times_the_threshold_it_is_a_step_more_severe(about, value, severity):
    assert alert_rules.severity_of(rule(*about), value) == severity


def test_a_rate_and_its_complement_are_judged_alike():
    success, failures = rule(*SUCCESS), rule("timeout_rate", "above", 20.0)

    for bad in range(101):
        assert alert_rules.excess(success, 100 - bad) == alert_rules.excess(failures, bad)


def test_nothing_is_more_severe_than_high():
    assert alert_rules.severity_of(rule(*TIMEOUTS, Severity.HIGH), 90.0) == Severity.HIGH


@pytest.mark.parametrize(("value", "good"), [(95.1, False), (95.0, True), (100.5, False)])
def test_good_is_inside_the_threshold_by_the_margin(value, good):
    about = rule("mean_total_s", "above", 100.0, clear_margin=0.05)

    assert alert_rules.is_good(about, value) is good


def test_a_threshold_of_zero_allows_nothing():
    about = rule("in_flight_and_waiting", "above", 0.0)

    assert alert_rules.severity_of(about, 1.0) == Severity.HIGH
    assert alert_rules.is_good(about, 0.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.04, "0.04"),
        (0.79612, "0.7961"),
        (11.821061998, "11.82"),
        (1234.56, "1,235"),
        (alert_rules.NEVER, "never"),
    ],
)
def test_values_are_shown_rounded(value, text):
    assert alert_rules.shown(value) == text
