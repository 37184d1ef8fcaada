"""Rows: added to by everybody, read over any window, aged without counting anything twice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection

from apps.common import events, measure
from apps.common.measure import Refused, Row
from apps.common.scale import COUNT_BUCKET
from apps.performance import selectors
from apps.performance.models import MetricBucket, MetricReset, Resolution, SystemSample
from apps.performance.services import keeping, resetting, statistics, storing

pytestmark = pytest.mark.django_db


def acquisitions(*statuses, site="court", total_s=1.0):
    for status in statuses:
        events.acquisition_ended(site=site, status=status, total_s=total_s, queue_wait_s=0.5)


def test_two_flushes_of_a_minute_are_one_row(time):
    for value in (2.0, 2.0, 2.001):
        measure.observe("x", value)
        measure.flush()
    [row] = MetricBucket.objects.filter(resolution=Resolution.MINUTE)
    assert (row.n, row.total, row.min, row.max) == (3, pytest.approx(6.001), 2.0, 2.001)
    [ever] = MetricBucket.objects.filter(resolution=Resolution.EVER)
    assert (ever.n, ever.total, ever.min, ever.max) == (3, pytest.approx(6.001), 2.0, 2.001)


def test_a_flush_is_one_statement(time, django_assert_num_queries):
    for number in range(50):
        measure.observe("x", number + 1.0)
    with django_assert_num_queries(4):  # savepoint, the newest reset, insert, release
        measure.flush()
    assert MetricBucket.objects.filter(resolution=Resolution.MINUTE).count() > 40


def test_what_the_database_refused_is_kept_for_the_next_flush(time, monkeypatch):
    def fail(values):
        raise OperationalError("gone")

    measure.count("x")
    with monkeypatch.context() as patch:
        patch.setattr(storing, "add", fail)
        assert measure.flush() == 0
    assert measure.flush() == 1
    assert MetricBucket.objects.get(resolution=Resolution.MINUTE).n == 1


on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite takes it")


@pytest.mark.parametrize(
    "bad",
    [
        {"n": 2**63},
        {"label": "\ud800"},
        pytest.param({"label": "a\x00"}, marks=on_postgresql),
        pytest.param({"metric": "m" * 65}, marks=on_postgresql),
    ],
)
def test_a_row_the_database_refuses_keeps_no_other_out(time, bad):
    good = [Row(0, "m", "", str(number), 1, 1, 1.0, 1.0, 1.0) for number in range(7)]
    rows = [*good[:4], good[0]._replace(**bad), *good[4:]]

    with pytest.raises(Refused) as refused:
        storing.store(rows)

    assert refused.value.rows == 1
    stored = MetricBucket.objects.filter(resolution=Resolution.MINUTE)
    assert {(row.metric, row.label, row.n) for row in stored} == {
        ("m", str(number), 1) for number in range(7)
    }


def test_what_no_database_takes_is_measured_all_the_same(time):
    measure.count("m" * 65, site="a\x00b", label="\ud800")
    measure.count("x", 2**63)
    measure.observe("y", 1.0)
    assert measure.flush() == 3
    assert measure.recorder.dropped == 0


@pytest.mark.django_db(transaction=True)
def test_what_was_committed_without_an_answer_is_not_written_again(time, monkeypatch):
    commit = connection.commit

    def commit_and_lose_the_answer():
        commit()
        raise OperationalError("server closed the connection")

    measure.count("x")
    with monkeypatch.context() as patch:
        patch.setattr(connection, "commit", commit_and_lose_the_answer)
        measure.flush()
    measure.flush()
    assert MetricBucket.objects.get(resolution=Resolution.MINUTE).n == 1
    assert measure.recorder.dropped == 1


def test_metrics_without_measurements_have_no_rates(time):
    found = statistics.metrics()
    assert (found.total, found.success_rate, found.timeout_rate) == (0, None, None)
    assert found.total_s.mean is None
    assert found.cache_hit_rate is None


def test_metrics_say_how_acquisitions_ended(time):
    acquisitions("success", "success", "timeout", "network_error", "captcha_error", "cancelled")
    acquisitions("credential_error", "failed", total_s=9.0)
    measure.flush()
    found = statistics.metrics()
    assert (found.total, found.success, found.failed, found.cancelled) == (7, 2, 5, 1)
    assert (found.timeout_errors, found.network_errors) == (1, 1)
    assert (found.captcha_errors, found.credential_errors) == (1, 1)
    assert found.success_rate == pytest.approx(2 / 7)
    assert found.timeout_rate == pytest.approx(1 / 7)
    assert (found.total_s.n, found.total_s.max) == (7, 9.0)
    assert found.queue_wait_s.mean == 0.5


def test_metrics_of_a_site_leave_the_others_out(time):
    acquisitions("success", site="court")
    acquisitions("failed", "failed", site="bank")
    measure.flush()
    assert statistics.metrics(site="bank").total == 2
    assert statistics.metrics(site="court").success_rate == 1.0
    assert statistics.metrics().total == 3


def test_metrics_forget_what_is_before_the_window(time):
    acquisitions("failed")
    measure.flush()
    time.move(400)
    acquisitions("success")
    measure.flush()
    assert statistics.metrics(300).success_rate == 1.0
    assert statistics.metrics(3600).success_rate == 0.5


def test_error_types_are_all_listed_and_have_a_trend(time):
    events.problem_answered(error_type="database_error", code="database_unavailable")
    measure.flush()
    time.move(360)
    for _ in range(3):
        events.problem_answered(error_type="database_error", code="database_unavailable")
    measure.flush()
    found = statistics.metrics(300)
    assert len(found.error_types) == 6
    assert (found.error_types[0].name, found.error_types[0].count) == ("database_error", 3)
    assert found.error_types[0].before == 1
    assert [(trend.name, trend.count) for trend in found.error_codes] == [
        ("database_unavailable", 3)
    ]


@pytest.mark.parametrize("window_s", [60, 120, 300])
def test_an_error_that_comes_steadily_has_no_trend(time, window_s):
    time.at = time.at.replace(second=0)
    for _ in range(20 * 60 + 59):
        events.problem_answered(error_type="api_error", code="x")
        time.move(1)
        if time.at.second in {0, 59}:
            measure.flush()
    [trend] = statistics.metrics(window_s).error_codes
    assert 0 <= trend.before - trend.count < 60


def test_login_errors_are_counted_by_code(time):
    events.login_ended(site="court", took_s=2.0)
    events.login_ended(site="court", took_s=4.0, error_type="api_error", code="network_error")
    measure.flush()
    found = statistics.metrics()
    assert [(trend.name, trend.count) for trend in found.login_errors] == [("network_error", 1)]
    assert found.login_s.n == 2


def test_a_reset_hides_what_was_before_it_at_once_and_deletes_nothing(time):
    acquisitions("failed")
    time.move(5)
    resetting.reset(by="ann")
    assert statistics.metrics().total == 0
    time.move(5)
    acquisitions("success")
    measure.flush()
    assert statistics.metrics().success_rate == 1.0
    assert MetricReset.objects.get().by == "ann"
    counts = MetricBucket.objects.filter(resolution=Resolution.MINUTE, metric=events.ACQUISITIONS)
    assert sum(row.n for row in counts) == 2


def test_a_reset_from_before_the_clock_was_put_back_hides_nothing(time):
    resetting.reset()
    time.move(-3_600)
    acquisitions("success")
    measure.flush()
    assert statistics.metrics().total == 1


def test_trends_do_not_reach_back_behind_a_reset(time):
    events.problem_answered(error_type="api_error", code="x")
    resetting.reset()
    time.move(1)
    found = statistics.metrics()
    assert [trend for trend in found.error_types if trend.before] == []


def test_a_series_has_a_point_for_every_step(time):
    start = time.at.replace(second=0)
    for value in (1.0, 3.0):
        measure.observe("x", value)
        measure.flush()
        time.move(120)
    points = statistics.series("x", start, start + timedelta(minutes=4), 60)
    assert [point.count for point in points] == [1, 0, 1, 0]
    assert [point.values.mean for point in points] == [1.0, None, 3.0, None]
    assert points[1].at == start + timedelta(minutes=1)


def test_the_rows_of_all_time_are_in_no_series(time):
    measure.count("x")
    measure.flush()
    points = statistics.series("x", storing.EPOCH, time.at, 10_000_000)
    assert sum(point.count for point in points) == 1


@pytest.mark.parametrize(("span_s", "step_s"), [(0, 60), (-60, 60), (600, 30), (10**9, 60)])
def test_a_senseless_series_is_refused(time, span_s, step_s):
    with pytest.raises(Exception, match="series"):
        statistics.series("x", time.at, time.at + timedelta(seconds=span_s), step_s)


def test_minutes_become_hours_become_days_and_every_measurement_stays_one(time):
    start = time.at.replace(second=0)
    for value in (1.0, 2.0, 4.0):
        measure.observe("x", value, site="court", label="a")
        measure.count("c")
        measure.flush()
        time.move(600)
    time.move(keeping.KEEP_MINUTES.total_seconds())
    keeping.keep()
    aged = MetricBucket.objects.exclude(resolution=Resolution.EVER)
    assert {row.resolution for row in aged} == {Resolution.HOUR}
    assert {row.minute for row in aged} == {start.replace(minute=0)}
    assert aged.get(bucket=COUNT_BUCKET).n == 3
    time.move(keeping.KEEP_HOURS.total_seconds())
    keeping.keep()
    assert {row.resolution for row in aged.all()} == {Resolution.DAY}
    [whole] = statistics.series("x", start.replace(hour=0), time.at, 86_400 * 60)
    assert (whole.count, whole.values.min, whole.values.max) == (3, 1.0, 4.0)
    assert whole.values.mean == pytest.approx(7 / 3)


def test_a_late_measurement_is_added_to_the_hour_that_is_there_already(time):
    minute = int(time.at.timestamp()) // 60 * 60
    for _ in range(2):
        storing.store([measure.Row(minute, "x", "", "", 1, 1, 1.5, 1.5, 1.5)])
        time.move(keeping.KEEP_MINUTES.total_seconds() + 60)
        keeping.keep()
        time.at = datetime.fromtimestamp(minute, tz=UTC)
    row = MetricBucket.objects.exclude(resolution=Resolution.EVER).get()
    assert (row.resolution, row.n, row.total) == (Resolution.HOUR, 2, 3.0)


def test_what_is_shown_since_a_reset_stays_shown_while_its_rows_age(time):
    time.at = time.at.replace(minute=10)
    for n, seconds in ((10, 20), (7, 1_900), (2, 0)):  # two resets in an hour, one in a minute
        measure.count("x", n)
        measure.flush()
        resetting.reset()
        time.move(seconds)
        measure.count("x", n)
        measure.flush()
    shown = MetricReset.objects.latest().since
    day = shown.replace(hour=0, minute=0, second=0)
    spans = ((shown, 2), (shown - timedelta(seconds=1_900), 11), (day, 38))
    for age, resolution in (
        (timedelta(), Resolution.MINUTE),
        (keeping.KEEP_MINUTES, Resolution.HOUR),
        (keeping.KEEP_HOURS, Resolution.DAY),
    ):
        time.move(age.total_seconds() + 3_600)
        while keeping.keep(budget_s=60):
            pass
        aged = MetricBucket.objects.exclude(resolution=Resolution.EVER)
        assert {row.resolution for row in aged} == {resolution}
        for since, n in spans:
            found = selectors.tallies(["x"], since=since, until=time.at)
            assert found["x"][""].counted == n
    assert aged.count() == 4


def test_the_oldest_rows_and_samples_go_and_the_totals_of_all_time_stay(time):
    measure.count("x")
    measure.flush()
    SystemSample.objects.create(
        at=time.at, host="h", pid=1, role="web", cpu_percent=1, memory_percent=1,
        process_cpu_percent=1, rss_bytes=1, threads=1,
    )  # fmt: skip
    time.move((keeping.KEEP_DAYS + keeping.KEEP_HOURS).total_seconds() + 86_400)
    for _ in range(3):
        keeping.keep()
    assert [row.resolution for row in MetricBucket.objects.all()] == [Resolution.EVER]
    assert not SystemSample.objects.exists()
