"""Many processes write the same rows while others age them: every measurement is there once."""

import multiprocessing
import os
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.db.models import Sum

from apps.common import events, measure
from apps.common.measure import NotStored, Row
from apps.performance.models import MetricBucket, Resolution
from apps.performance.services import keeping, storing
from tests.performance.metrics.conftest import exposed

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
ROUNDS, SERIES, WRITERS = 25, 40, 3
FORK = multiprocessing.get_context("fork")


def start(target, *arguments):
    """Fork as the task queue does: the child opens connections of its own."""
    connections.close_all()
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def _write(minute, seed):
    for number in range(ROUNDS):
        # Another order in every process; the store sorts.
        rows = [
            Row(minute + 60 * (number % 5), "m", "s", f"{one * seed % SERIES}", 1, 1, 1.0, 1.0, 1.0)
            for one in range(SERIES)
        ]
        while True:
            try:
                storing.store(rows)
                break
            except NotStored:
                continue  # surely not there: once more cannot count it twice


def _keep_until(done):
    """Age rows all the time, and once more when all are written: a busy machine may starve us."""
    while True:
        is_last = done.is_set()
        keeping.keep(budget_s=0.5)
        if is_last:
            return


def test_rows_that_are_written_and_aged_at_once_are_neither_lost_nor_doubled():
    at = (datetime.now(tz=UTC) - timedelta(days=3)).replace(second=0, microsecond=0)
    done = FORK.Event()
    keepers = [start(_keep_until, done) for _ in range(2)]
    writers = [start(_write, int(at.timestamp()), seed) for seed in (1, 3, 7)]
    for writer in writers:
        writer.join(60)
    done.set()
    for keeper in keepers:
        keeper.join(60)
    assert [process.exitcode for process in (*writers, *keepers)] == [0] * (WRITERS + 2)
    rows = MetricBucket.objects.order_by()
    expected = ROUNDS * SERIES * WRITERS
    ageing = rows.exclude(resolution=Resolution.EVER)
    assert ageing.aggregate(Sum("n"), Sum("total")) == {"n__sum": expected, "total__sum": expected}
    assert ageing.filter(resolution=Resolution.HOUR).exists()
    assert rows.filter(resolution=Resolution.EVER).aggregate(Sum("n"))["n__sum"] == expected


def _measure(hard):
    measure.set_sink(storing.store, background=True)
    for _ in range(100):
        events.acquisition_ended(site="court", status="success", total_s=3.0, queue_wait_s=0.2)
    if hard:
        os._exit(0)


def test_what_forked_children_measured_is_exposed_when_they_end():
    children = [start(_measure, False) for _ in range(3)]
    for child in children:
        child.join(60)
    ended = ("site", "court"), ("status", "success")
    assert exposed()["latchkey_acquisitions_total", ended] == 300


def test_a_child_that_is_killed_loses_its_last_seconds_and_nothing_of_others():
    measure.count(events.LOGINS, site="court", label="ok")
    killed = start(_measure, True)
    killed.join(60)
    measure.flush()
    assert {key for key in exposed() if key[0].startswith("latchkey_acquisitions")} == set()
    assert exposed()["latchkey_logins_total", (("result", "ok"), ("site", "court"))] == 1
