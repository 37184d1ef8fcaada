"""Periodic jobs, steps of upkeep, and sampling."""

import os
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest
from django.db import OperationalError

from apps.common import clock, events, measure, optimization, periodic
from apps.common.optimization import StepOptions, StepReport, register_step, run_steps
from apps.performance import selectors
from apps.performance.models import SystemSample
from apps.performance.services import resources, sampling, storing
from tests.performance.metrics.conftest import exposed
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import claim


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.setattr(periodic, "_jobs", {})


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(optimization, "_steps", {})


def test_a_job_runs_when_it_is_due(jobs, db):
    ran = []
    periodic.register("a", every_s=10)(lambda: ran.append("a"))
    periodic.register("b", every_s=1)(lambda: ran.append("b"))
    for now_s in (100.0, 100.5, 101.5, 111.0):
        periodic.run_due(now_s=now_s)
    assert ran == ["a", "b", "b", "a", "b"]


@pytest.mark.parametrize("error", [ValueError("x"), OperationalError("server closed")])
def test_a_job_that_fails_stops_nobody_and_is_tried_again(jobs, db, error):
    ran = []

    def fail():
        ran.append("failing")
        raise error

    periodic.register("a", every_s=1)(fail)
    periodic.register("b", every_s=1)(lambda: ran.append("b"))
    periodic.run_due(now_s=1.0)
    periodic.run_due(now_s=3.0)
    assert ran == ["failing", "b"] * 2


def report(name):
    return StepReport(name=name, ok=True, summary="done")


def test_steps_run_in_their_order_and_only_those_asked_for(steps):
    for name, order, flag in (("c", 3, "x"), ("a", 1, "x"), ("b", 2, "y")):
        register_step(name, order=order, flag=flag)(lambda _, name=name: report(name))
    assert [found.name for found in run_steps(StepOptions(), flags={"x"})] == ["a", "c"]


def test_a_step_that_fails_is_reported_without_its_secrets_and_stops_nobody(steps):
    @register_step("bad", order=1, flag="x")
    def bad(options):
        raise RuntimeError("password=hunter2")

    register_step("good", order=2, flag="x")(lambda _: report("good"))
    found = run_steps(StepOptions(), flags={"x"})
    assert [(one.name, one.ok) for one in found] == [("bad", False), ("good", True)]
    assert "hunter2" not in found[0].summary
    assert "RuntimeError" in found[0].summary


def test_a_name_of_a_step_is_taken_once(steps):
    register_step("a", order=1, flag="x")(lambda _: report("a"))
    with pytest.raises(ValueError, match="already"):
        register_step("a", order=1, flag="x")(lambda _: report("a"))


def test_a_process_is_sampled_every_ten_seconds(db, monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr(sampling, "_processes", {})
    monkeypatch.setattr("apps.common.clock.monotonic", lambda: seconds[0])
    taken = []
    for _ in range(30):
        taken.append(sampling.sample_if_due(role="web"))
        seconds[0] += 1
    assert [at for at, did in enumerate(taken) if did] == [10, 20]
    row = SystemSample.objects.first()
    assert (row.pid, row.role, row.redis) == (os.getpid(), "web", sampling.redis_state())
    assert row.rss_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert row.queue_depth is None
    assert measure.recorder.pending() >= 4


def test_whoever_asks_every_three_seconds_looks_every_ten_on_average(db, monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr(sampling, "_processes", {})
    monkeypatch.setattr("apps.common.clock.monotonic", lambda: seconds[0])
    taken = []
    for pause in [3] * 20 + [100] + [3] * 7:  # a stop of 100 s is not made up for
        if sampling.sample_if_due(role="web"):
            taken.append(seconds[0] - 100)
        seconds[0] += pause
    assert taken == [12, 21, 30, 42, 51, 60, 160, 172]


@pytest.fixture
def children():
    """Start a Python process with these arguments that sleeps."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
        started.append(subprocess.Popen(command))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_supervisor_looks_at_the_queues_processes_that_do_not_themselves(
    db, monkeypatch, children
):
    seconds = [100.0]
    monkeypatch.setattr(sampling, "_processes", {})
    monkeypatch.setattr("apps.common.clock.monotonic", lambda: seconds[0])
    waits, works, _browser = children("qcluster"), children("qcluster"), children("browser")
    SystemSample.objects.create(
        at=clock.now(), host=sampling.identity()[0], pid=works, role="worker", cpu_percent=1,
        memory_percent=1, process_cpu_percent=1, rss_bytes=1, threads=1,
    )  # fmt: skip
    taken = 0
    for _ in range(40):
        taken += sampling.sample_if_due(role=sampling.SUPERVISOR)
        seconds[0] += 1
    rows = SystemSample.objects.filter(role=sampling.QUEUE)
    # Its first look at a process has nothing to compare with.
    assert (taken, [row.pid for row in rows]) == (3, [waits] * 2)
    assert all(row.rss_bytes > 1_000_000 for row in rows)


def test_what_a_sample_says_outlives_it_as_metrics(db, time, monkeypatch):
    monkeypatch.setattr(sampling, "_processes", {})
    sampling._this_process().next_s = 0.0
    assert sampling.sample_if_due(role=sampling.SUPERVISOR)
    measure.flush()
    row = SystemSample.objects.get()
    for metric, value in (
        (events.OPEN_FILES, row.open_files),
        (events.QUEUE_DEPTH, 0),
        (events.IN_FLIGHT, 0),
        (events.DATABASE_MS, row.database_ms),
        (events.RSS_BYTES, row.rss_bytes),
    ):
        found = selectors.tallies([metric], since=storing.EPOCH, until=time.at)[metric]
        assert [(tally.n, tally.total) for tally in found.values()] == [(1, value)]


def test_a_dead_process_is_not_shown_until_a_clock_that_was_put_back_has_caught_up(db):
    at = clock.now()
    for ago_s, pid in ((-3_600, 1), (5, 2), (31, 3)):
        SystemSample.objects.create(
            at=at - timedelta(seconds=ago_s), host="h", pid=pid, role="web", cpu_percent=1,
            memory_percent=1, process_cpu_percent=1, rss_bytes=7, threads=1,
        )  # fmt: skip
    assert [row.pid for row in resources.fresh(at)] == [2]
    size = "latchkey_resident_memory_bytes", (("host", "h"), ("role", "web"))
    assert exposed()[size] == 7


def test_the_supervisor_looks_at_what_all_share(db, settings, monkeypatch):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    from apps.tokens.services import acquisition
    from tests.tokens.factories import caller

    make_account(make_site("court"))
    make_account(make_site("bank"), username="bob")
    for site in ("court", "bank"):
        acquisition.obtain(acquisition.AcquireSpec(site=site), principal=caller())
    assert claim()
    found = sampling.shared_state(1, None)
    assert (found["queue_depth"], found["in_flight"]) == (1, 1)
    [worker] = found["workers"]
    assert [job["account"] for job in worker["running"]] == ["alice"]
    assert found["database_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        (["manage.py", "workers"], "supervisor"),
        (["/srv/latchkey/manage.py", "qcluster"], "worker"),
        (["manage.py", "migrate"], "command"),
        (["/usr/bin/uvicorn", "config.asgi:application"], "web"),
        (["/site-packages/uvicorn/__main__.py", "config.asgi:application"], "web"),
        ([], "other"),
    ],
)
def test_a_process_knows_what_it_is_for(arguments, role):
    assert sampling.role_of(arguments) == role
