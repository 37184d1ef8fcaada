"""The values that rules are held against, from what the software itself records."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps

from apps.common import clock, events, measure
from apps.common.measure import Recorder
from apps.performance.models import Alert, AlertRule, SystemSample
from apps.performance.models.alerts import AlertMetric, Severity
from apps.performance.services import evaluation, resetting
from apps.performance.services.alert_rules import Reading
from apps.performance.services.evaluation_readings import Readings
from apps.performance.services.storing import store
from tests.tokens.factories import make_site

shipped = import_module("apps.performance.migrations.0003_shipped_alert_rules")


@pytest.fixture
def recorder(monkeypatch):
    """A recorder of this test's own, that writes when told."""
    own = Recorder()
    own.set_sink(store)
    monkeypatch.setattr(measure, "count", own.count)
    monkeypatch.setattr(measure, "observe", own.observe)
    return own


def read(metric, *, site="", window_s=300, open_sites=("a", "b")):
    at = clock.now() + timedelta(seconds=61)
    return Readings(at=at, open_sites=open_sites).read(metric, site=site, window_s=window_s)


def acquisitions(site, **ended):
    for status, n in ended.items():
        for _ in range(n):
            events.acquisition_ended(site=site, status=status, total_s=10.0)


def test_rates_are_of_a_site_or_of_all_as_one(recorder):
    acquisitions("a", success=6, failed=2, timeout=2, cancelled=50)
    acquisitions("b", success=10)
    recorder.flush()

    assert read("success_rate", site="a").value == 60.0
    assert read("success_rate", site="a").observations == 10
    assert read("timeout_rate", site="a").value == 20.0
    assert read("success_rate").value == 80.0


def test_a_closed_site_is_left_out_of_what_is_read_of_all(recorder):
    acquisitions("a", timeout=10)
    acquisitions("b", success=10)
    recorder.flush()

    assert read("success_rate", open_sites=("b",)).value == 100.0


@pytest.mark.parametrize("metric", [m for m in AlertMetric if m != "in_flight_and_waiting"])
def test_where_nothing_was_measured_there_is_no_value(metric):
    assert read(metric, site="a").value is None


def test_a_reset_of_what_is_shown_blinds_no_rule(recorder):
    acquisitions("a", timeout=50)
    recorder.flush()

    resetting.reset()

    assert read("success_rate", site="a") == Reading(value=0.0, observations=50)


def test_durations_are_read_as_the_names_say(recorder):
    for took_s in (0.1, 0.1, 0.1, 0.3):
        measure.observe(events.STORE_S, took_s)
    acquisitions("a", success=3)
    recorder.flush()

    assert read("store_p95_ms").value == pytest.approx(300, rel=0.02)
    assert read("mean_total_s", site="a").value == pytest.approx(10.0)


def test_the_worst_host_counts():
    at = clock.now() + timedelta(seconds=30)
    for host, memory in (("big", 20.0), ("full", 90.0), ("full", 94.0)):
        SystemSample.objects.create(
            at=at, host=host, pid=1, role="web", cpu_percent=1, memory_percent=memory,
            process_cpu_percent=0, rss_bytes=1, threads=1,
        )  # fmt: skip

    assert read("memory_percent").value == 92.0
    assert read("memory_percent").observations == 2


def test_a_sample_from_before_the_clock_was_put_back_does_not_count():
    SystemSample.objects.create(
        at=clock.now() + timedelta(hours=1), host="h", pid=1, role="web", cpu_percent=1,
        memory_percent=99, process_cpu_percent=0, rss_bytes=1, threads=1,
    )  # fmt: skip

    assert read("memory_percent").value is None


def test_reading_many_sites_takes_no_more_queries_than_reading_one(
    recorder, django_assert_num_queries
):
    sites = [f"s{number}" for number in range(20)]
    for site in sites:
        acquisitions(site, success=1)
    recorder.flush()
    readings = Readings(at=clock.now() + timedelta(seconds=61), open_sites=sites)

    with django_assert_num_queries(1):
        for site in sites:
            readings.read("success_rate", site=site, window_s=900)
            readings.read("timeout_rate", site=site, window_s=900)


def test_the_rules_of_the_requirements_are_shipped():
    shipped.write(apps, _Schema)

    found = {
        (rule.metric, rule.direction, rule.threshold, Severity(rule.severity).label)
        for rule in AlertRule.objects.all()
    }
    assert found >= {
        ("success_rate", "below", 80.0, "high"),
        ("timeout_rate", "above", 10.0, "high"),
        ("mean_total_s", "above", 120.0, "medium"),
        ("in_flight_and_waiting", "above", 5.0, "medium"),
        ("memory_percent", "above", 80.0, "medium"),
        ("cache_hit_rate", "below", 70.0, "low"),
        ("cpu_percent", "above", 70.0, "low"),
        ("store_p95_ms", "above", 100.0, "low"),
        ("retrieve_p95_ms", "above", 50.0, "low"),
        ("api_p95_ms", "above", 200.0, "low"),
    }


def test_a_failing_site_raises_the_shipped_alert(recorder):
    shipped.write(apps, _Schema)
    make_site("a")
    make_site("b")
    acquisitions("a", success=3, failed=7)
    acquisitions("b", success=50)
    recorder.flush()

    evaluation.evaluate(at=clock.now() + timedelta(seconds=61))

    alert = Alert.objects.get()
    assert (alert.metric, alert.site, alert.value) == ("success_rate", "a", 30.0)


def test_a_fresh_installation_raises_nothing():
    shipped.write(apps, _Schema)
    make_site("a")

    evaluation.evaluate(at=clock.now())

    assert not Alert.objects.exists()


class _Schema:
    class connection:  # noqa: N801 - as a schema editor has it
        alias = "default"
