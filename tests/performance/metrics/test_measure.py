"""The recorder: exact sums, bounded memory, nothing told twice, nothing held back by a fork."""

import asyncio
import math
import multiprocessing
import os
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.common import events, measure
from apps.common.measure import OTHER, NotStored, Recorder, Refused
from apps.common.monitoring import monitor_performance, timed
from apps.common.scale import COUNT_BUCKET, LARGEST, RELATIVE_ERROR, SMALLEST, bucket_of, value_of
from apps.performance.services.distributions import Tally


def collecting(recorder, **options):
    rows = []
    recorder.set_sink(rows.extend, **options)
    return rows


@given(st.floats(min_value=SMALLEST * 1.0001, max_value=LARGEST))
@settings(max_examples=300, deadline=None)
def test_a_bucket_stands_for_its_values_within_the_stated_error(value):
    assert abs(value_of(bucket_of(value)) / value - 1) <= RELATIVE_ERROR * (1 + 1e-9)


@given(
    st.lists(st.floats(min_value=SMALLEST * 1.0001, max_value=LARGEST), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 0.99]),
)
@settings(max_examples=200, deadline=None)
def test_percentiles_are_within_the_stated_error_of_the_exact_ones(values, share):
    recorder = Recorder(now=lambda: 0)
    rows = collecting(recorder)
    for value in values:
        recorder.observe("x", value)
    recorder.flush()
    tally = Tally()
    for row in rows:
        tally.add(row.bucket, row.n, row.total, row.lowest, row.highest)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    [found] = tally.quantiles([share])
    assert abs(found / exact - 1) <= RELATIVE_ERROR * (1 + 1e-9)
    assert (tally.n, tally.lowest, tally.highest) == (len(values), min(values), max(values))
    assert tally.total == pytest.approx(math.fsum(values))


def test_counts_and_values_become_rows_of_the_minute_they_began_in():
    recorder = Recorder(now=lambda: 125.0)
    rows = collecting(recorder)
    recorder.count("logins", 3, site="court", label="ok")
    recorder.count("logins", site="court", label="ok")
    recorder.observe("login_s", 2.0, site="court")
    recorder.flush()
    value, count = rows
    assert count == (120, "logins", "court", "ok", COUNT_BUCKET, 4, 0.0, 0.0, 0.0)
    assert value == (120, "login_s", "court", "", bucket_of(2.0), 1, 2.0, 2.0, 2.0)


def test_rows_come_in_the_order_of_their_keys():
    recorder = Recorder(now=lambda: 0)
    rows = collecting(recorder)
    names = [f"m{number}" for number in range(20)]
    random.Random(1).shuffle(names)
    for name in names:
        recorder.count(name, label="b")
        recorder.count(name, label="a")
    recorder.flush()
    assert rows == sorted(rows)


@pytest.mark.parametrize("value", [2.5e9, 999_999_999_999_999.0, LARGEST])
def test_sizes_are_measured_as_exactly_as_durations(value):
    recorder = Recorder()
    rows = collecting(recorder)
    recorder.observe("bill_bytes", value)
    recorder.observe("bill_bytes", value)
    recorder.flush()
    [row] = rows
    assert (row.n, row.total, row.lowest, row.highest) == (2, 2 * value, value, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(value):
    recorder = Recorder()
    recorder.observe("x", value)
    assert recorder.pending() == 0


@pytest.mark.parametrize(
    "value", [0.0, -1.0, 1e300, -1e300, pytest.param(-(10**400), id="no float"), SMALLEST]
)
def test_extreme_values_are_kept_as_far_as_the_scale_reaches(value):
    recorder = Recorder()
    rows = collecting(recorder)
    recorder.observe("x", value)
    recorder.flush()
    assert [row.n for row in rows] == [1]
    assert abs(rows[0].total) <= LARGEST


def test_no_measurement_of_many_threads_is_lost():
    recorder = Recorder(now=lambda: 0)
    rows = collecting(recorder)

    def work():
        for _ in range(2_000):
            recorder.count("c")
            recorder.observe("v", 1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        recorder.flush()
    recorder.flush()
    assert sum(row.n for row in rows if row.metric == "c") == 16_000
    assert sum(row.total for row in rows if row.metric == "v") == 16_000


def test_a_flood_of_new_labels_is_counted_as_other():
    recorder = Recorder()
    rows = collecting(recorder)
    for number in range(measure.SERIES_A_METRIC + 500):
        recorder.count("c", site=f"site-{number}", label="x")
    recorder.flush()
    assert sum(row.n for row in rows) == measure.SERIES_A_METRIC + 500
    assert len(rows) == measure.SERIES_A_METRIC + 1
    [rest] = [row for row in rows if row.site == OTHER]
    assert (rest.label, rest.n) == (OTHER, 500)


def test_a_flood_of_new_metrics_is_bounded_too():
    recorder = Recorder()
    rows = collecting(recorder)
    for number in range(measure.METRICS + 50):
        recorder.count(f"m{number}")
    recorder.flush()
    assert [row.n for row in rows if row.metric == OTHER] == [50]


def test_rows_are_bounded_while_nobody_takes_them():
    recorder = Recorder()
    for number in range(200):
        for label in range(200):
            recorder.count(f"m{number}", label=str(label))
    assert recorder.pending() == measure.ROWS
    assert recorder.dropped == 200 * 200 - measure.ROWS


def test_a_label_too_long_for_a_row_is_other():
    recorder = Recorder()
    rows = collecting(recorder)
    recorder.count("c", label="x" * 200)
    recorder.flush()
    assert [row.label for row in rows] == [OTHER]


def test_a_name_no_database_takes_is_made_one_that_both_take():
    recorder = Recorder()
    rows = collecting(recorder)
    recorder.count("m" * 65, site="a\x00b", label="\ud800")
    recorder.count("m" * 65, site="a\x00b", label="\ud800")
    recorder.flush()
    assert [(row.metric, row.site, row.label, row.n) for row in rows] == [("m" * 64, "a?b", "?", 2)]


@pytest.mark.parametrize(("n", "kept"), [(2**63, 2**53), (-(10**30), -(2**53)), (math.nan, 0)])
def test_a_count_past_all_counting_keeps_nothing_else_from_being_handed_on(n, kept):
    recorder = Recorder()
    rows = collecting(recorder)
    recorder.count("a", n)
    recorder.count("b")
    recorder.flush()
    assert [row.n for row in rows] == [kept, 1]


def test_what_a_sink_refuses_is_dropped_and_the_rest_is_stored():
    recorder = Recorder()

    def sink(rows):
        raise Refused(1)

    recorder.set_sink(sink)
    for name in ("x", "y", "z"):
        recorder.count(name)
    assert recorder.flush() == 2
    assert (recorder.dropped, recorder.pending()) == (1, 0)


def test_what_surely_was_not_stored_is_handed_on_again_in_its_own_minute():
    now = [60.0]
    recorder = Recorder(now=lambda: now[0])
    handed = []

    def sink(rows):
        handed.append(rows)
        if len(handed) == 1:
            raise NotStored

    recorder.set_sink(sink)
    recorder.observe("x", 1.0)
    assert recorder.flush() == 0
    recorder.observe("x", 1.0)
    now[0] = 120.0
    recorder.observe("x", 1.0)
    recorder.flush()
    assert [(row.minute, row.n, row.total) for row in handed[1]] == [(60, 2, 2.0), (120, 1, 1.0)]


def test_what_is_measured_while_a_flush_waits_goes_into_its_own_minute():
    now = [59.0]
    recorder = Recorder(now=lambda: now[0])
    handed = []

    def sink(rows):
        handed.append(rows)
        if len(handed) == 1:  # the database is away, for two and a half minutes
            for now[0] in (70.0, 75.0, 209.0):
                recorder.count("x")
            raise NotStored

    recorder.set_sink(sink)
    recorder.count("x")
    recorder.flush()
    assert recorder.flush() == 3
    assert [(row.minute, row.n) for row in handed[1]] == [(0, 1), (60, 2), (180, 1)]


def test_rows_of_many_minutes_are_bounded_while_nobody_takes_them():
    now = [0.0]
    recorder = Recorder(now=lambda: now[0])
    for minute in range(5):
        now[0] = 60.0 * minute
        for number in range(measure.ROWS // 3):
            recorder.count(f"m{number % 200}", label=str(number // 200))
    # Those of the minute that runs, and of as many whole minutes before it as fit.
    assert recorder.pending() == measure.ROWS // 3 * 4
    assert recorder.dropped == measure.ROWS // 3


def test_what_may_have_been_stored_is_never_handed_on_again():
    recorder = Recorder()
    handed = []

    def sink(rows):
        handed.append(rows)
        raise RuntimeError

    recorder.set_sink(sink)
    recorder.count("x")
    recorder.flush()
    recorder.flush()
    assert len(handed) == 1
    assert recorder.dropped == 1


def test_without_a_sink_measuring_costs_nothing_but_memory():
    recorder = Recorder()
    recorder.count("x")
    assert recorder.flush() == 0
    assert recorder.pending() == 1


def test_the_thread_starts_with_the_first_measurement_and_stores_what_is_left_at_the_end():
    recorder = Recorder()
    rows = collecting(recorder, background=True)
    assert recorder._thread is None
    recorder.count("x")
    assert recorder._thread.daemon
    recorder.close()
    assert [row.n for row in rows] == [1]


def _in_child(queue):
    # What the parent had measured is the parent's to store.
    rows = []
    measure.set_sink(lambda found: queue.put([tuple(row) for row in rows + found]), background=True)
    measure.count("child")


def test_a_forked_child_hands_on_its_own_measurements_before_it_ends(recorder):
    measure.count("parent")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with recorder._lock:  # another thread may hold it at the time of a fork
        child = context.Process(target=_in_child, args=(queue,))
        child.start()
    found = queue.get(timeout=60)
    child.join(60)
    assert [row[1] for row in found] == ["child"]
    assert child.exitcode == 0


def test_a_plain_fork_while_another_thread_measures_does_not_hang(recorder):
    with recorder._lock:
        pid = os.fork()
        if pid == 0:
            measure.count("x")
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def rows_of(recorder):
    rows = collecting(recorder)
    recorder.flush()
    return {(row.metric, row.site, row.label): row.n for row in rows}


def test_a_monitored_function_is_counted_with_its_tags(recorder):
    @monitor_performance("parse", site="court", form="csv")
    def parse(text):
        return text.upper()

    assert parse("a") == "A"
    assert rows_of(recorder) == {
        (events.CALLS, "court", "parse,form=csv"): 1,
        (events.CALL_S, "court", "parse,form=csv"): 1,
    }


def test_a_monitored_error_is_counted_by_class_and_raised_on(recorder):
    @monitor_performance("parse")
    def parse():
        raise KeyError("x")

    with pytest.raises(KeyError):
        parse()
    assert rows_of(recorder)[events.CALL_ERRORS, "", "parse|KeyError"] == 1


async def test_a_coroutine_is_measured_to_its_end(recorder):
    @monitor_performance("fetch")
    async def fetch():
        await asyncio.sleep(0)
        return 1

    assert await fetch() == 1
    assert rows_of(recorder)[events.CALLS, "", "fetch"] == 1


async def test_a_cancelled_coroutine_counts_as_cancelled(recorder):
    @monitor_performance("fetch")
    async def fetch():
        await asyncio.sleep(60)

    task = asyncio.create_task(fetch())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows_of(recorder)[events.CALL_ERRORS, "", "fetch|CancelledError"] == 1


async def test_blocks_are_measured_in_both_kinds_of_with(recorder):
    with monitor_performance("block"):
        pass
    async with monitor_performance("block"):
        pass
    assert rows_of(recorder)[events.CALLS, "", "block"] == 2


def test_timed_observes_what_returns(recorder):
    assert timed("x")(lambda: 5)() == 5
    assert rows_of(recorder) == {("x", "", ""): 1}


def test_ids_in_paths_are_no_labels(recorder):
    for number in (1, 2):
        events.request_answered(
            method="GET", route=f"/api/v1/automation/requests/{number}", status=200, took_s=0.1
        )
    key = (events.API_S, "", "GET /api/v1/automation/requests/{id}")
    assert rows_of(recorder)[key] == 2


def test_the_route_whose_callers_wait_does_not_make_the_api_slow(recorder):
    events.request_answered(
        method="POST", route="/api/v1/automation/tokens/acquire", status=200, took_s=30.0
    )
    assert not [key for key in rows_of(recorder) if key[0] == events.API_S]
