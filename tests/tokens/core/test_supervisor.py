"""The supervisor against real process groups: a keeper of ours, and a queue that only sleeps."""

import shutil
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from apps.common.clock import database_now
from apps.tokens.models import ClusterBeat, RecoveryAction
from apps.tokens.services import supervisor
from apps.tokens.services.owner import host_name
from apps.tokens.services.supervisor import (
    IDLE_WEDGED_AFTER_S,
    WEDGED_AFTER_S,
    Cluster,
    Supervisor,
)
from tests.integration.stack import eventually
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import ask
from tests.tokens.work import claim

ROOT = Path(__file__).resolve().parents[3]
# As django-q2 does: a main process, a sentinel below it, and workers below that.
QUEUE = """
import os, sys, time
for _ in range(2):
    if os.fork():
        break
time.sleep(600)
"""

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch):
    hands = [1000.0]
    monkeypatch.setattr(supervisor, "monotonic", lambda: hands[0])
    return hands


@pytest.fixture
def running(settings, tmp_path, clock):
    """A supervisor with one cluster whose processes are all there."""
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "keeper.py", tmp_path / "config")
    (tmp_path / "manage.py").write_text(QUEUE)
    settings.BASE_DIR = tmp_path
    found = Supervisor(say=lambda line: None, clusters=[Cluster("default", grace_s=1)])
    found._revive()
    eventually(lambda: len(found.clusters[0].members()) == 3)
    yield found
    eventually(found.clusters[0].members)
    found.clusters[0].kill()


def repairs():
    return [(row.kind, row.subject) for row in RecoveryAction.objects.order_by("at")]


def be_silent(running, clock, *, for_s, lives_s=3600, logs_in=False):
    """Let the supervisor look at a cluster that lives since, and last answered, so long ago."""
    running._beat()
    clock[0] = running.clusters[0].started_s + lives_s
    at = database_now()
    ClusterBeat.objects.filter(host=host_name()).update(answered_at=at - timedelta(seconds=for_s))
    if logs_in:
        make_account(make_site())
        ask()
        assert claim()
    running._beat()


@pytest.mark.parametrize(
    "facts",
    [
        {"for_s": IDLE_WEDGED_AFTER_S + 1},
        {"for_s": WEDGED_AFTER_S + 1, "logs_in": True},
        {"for_s": 3600, "lives_s": IDLE_WEDGED_AFTER_S + 1},
    ],
    ids=["idle", "logs in", "never answered"],
)
def test_a_cluster_whose_tasks_do_not_come_back_is_replaced_with_all_its_processes(
    running, clock, facts
):
    (cluster,), before = running.clusters, running.clusters[0].members()
    be_silent(running, clock, **facts)
    eventually(lambda: not any(_lives(one) for one in before))
    assert repairs() == [("cluster_wedged", "default")]
    clock[0] = cluster.start_at_s
    running._revive()
    eventually(lambda: len(cluster.members()) == 3)
    assert not {one.pid for one in before} & {one.pid for one in cluster.members()}


@pytest.mark.parametrize(
    "facts",
    [
        {"for_s": IDLE_WEDGED_AFTER_S - 10},
        {"for_s": WEDGED_AFTER_S - 10, "logs_in": True},
        {"for_s": 3600, "lives_s": IDLE_WEDGED_AFTER_S - 10},
    ],
    ids=["idle", "logs in", "has just begun"],
)
def test_a_cluster_is_given_time_to_answer(running, clock, facts):
    before = running.clusters[0].members()
    be_silent(running, clock, **facts)
    assert running.clusters[0].members() == before
    assert repairs() == []


def test_a_cluster_that_is_slow_to_start_is_given_longer_each_time(running, clock):
    (cluster,) = running.clusters
    lived = []
    for _ in range(4):
        running._beat()
        ClusterBeat.objects.update(answered_at=database_now() - timedelta(hours=1))
        while cluster.process is not None:
            clock[0] += 1
            running._beat()
        lived.append(clock[0] - cluster.started_s)
        clock[0] = cluster.start_at_s
        running._revive()
    assert [round(s) for s in lived] == [31, 61, 76, 76]


def test_a_cluster_that_ends_again_and_again_is_started_less_and_less_often(running, clock):
    (cluster,) = running.clusters
    waits = []
    for _ in range(5):
        eventually(cluster.members)
        cluster.kill()
        running._revive()
        assert cluster.process is None
        waits.append(cluster.start_at_s - clock[0])
        running._revive()
        assert cluster.process is None, "It has to wait."
        clock[0] = cluster.start_at_s
        running._revive()
        assert cluster.process is not None
    assert waits == [2, 4, 8, 16, 30]
    assert repairs() == [("cluster_ended", "default")] * 5


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
