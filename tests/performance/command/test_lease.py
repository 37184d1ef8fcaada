"""Two runs of the upkeep do not overlap; a killed one does not stand in the way."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from apps.common.clock import now
from apps.performance.models import UpkeepLease
from apps.performance.services import upkeep

ROOT = Path(__file__).parents[3]
HOLD = """
import time
from apps.performance.services import upkeep
with upkeep.hold():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_told_since_when(db):
    with upkeep.hold(), pytest.raises(upkeep.AlreadyRunning, match="nothing was done"):
        upkeep.hold().__enter__()


def test_the_lease_ends_with_the_run(db):
    with upkeep.hold():
        pass

    with upkeep.hold():
        assert UpkeepLease.objects.count() == 1
    assert not UpkeepLease.objects.exists()


def test_looking_and_dry_runs_need_no_lease(db):
    health = upkeep.choose(flags=["health_check"])
    cleaning = upkeep.choose(flags=["cleanup_days"])

    with upkeep.hold():
        assert len(upkeep.run(health, upkeep.StepOptions())) == len(health)
        assert len(upkeep.run(cleaning, upkeep.StepOptions(dry_run=True))) == len(cleaning)
        with pytest.raises(upkeep.AlreadyRunning):
            upkeep.run(cleaning, upkeep.StepOptions())


def test_a_lease_that_ran_out_on_another_host_is_taken_over(db):
    with upkeep.hold() as first:
        UpkeepLease.objects.update(host="elsewhere", lease_until=now() - timedelta(seconds=1))
        with upkeep.hold():
            assert first.renew() is False
            assert first.lost.is_set()


def test_a_lease_of_another_host_stands_until_its_end(db):
    with upkeep.hold():
        UpkeepLease.objects.update(host="elsewhere", pid=999_999)
        with pytest.raises(upkeep.AlreadyRunning):
            upkeep.hold().__enter__()


def test_a_run_that_lost_its_lease_begins_no_further_step(db):
    ran = []
    steps = upkeep.choose(only=["history.roll_up", "performance.keep"], flags=[])

    def lose(step):
        ran.append(step.name)
        UpkeepLease.objects.update(holder="00000000-0000-0000-0000-000000000000")
        lease.renew()

    with upkeep.hold() as lease:
        reports = list(upkeep._each(steps, upkeep.StepOptions(), lease, lose, None))

    assert len(ran) == 1
    assert [report.ok for report in reports] == [True, False]


@pytest.mark.processes
def test_the_lease_of_a_killed_process_comes_back_at_once(database_url):
    holder = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", HOLD],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
        },
    )  # fmt: skip
    try:
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(upkeep.AlreadyRunning):
            upkeep.hold().__enter__()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    began = time.monotonic()
    with upkeep.hold():
        assert UpkeepLease.objects.get().pid == os.getpid()
    assert time.monotonic() - began < 5
