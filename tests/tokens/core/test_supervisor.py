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
from apps.tokens.services.supervisor import WEDGED_AFTER_S, Cluster, Supervisor
from tests.integration.stack import eventually

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


def silent_for(seconds):
    at = database_now() - timedelta(seconds=seconds)
    ClusterBeat.objects.filter(host=host_name()).update(asked_at=at, answered_at=at)


def test_a_cluster_whose_tasks_never_come_back_is_replaced_with_all_its_processes(running, clock):
    (cluster,), before = running.clusters, running.clusters[0].members()
    running._beat()
    clock[0] += WEDGED_AFTER_S + 1
    silent_for(WEDGED_AFTER_S + 1)
    running._beat()
    eventually(lambda: not any(one.is_running() and _lives(one) for one in before))
    assert repairs() == [("cluster_wedged", "default")]
    clock[0] += 60
    running._revive()
    eventually(lambda: len(cluster.members()) == 3)
    assert not {one.pid for one in before} & {one.pid for one in cluster.members()}


@pytest.mark.parametrize("silent_s", [WEDGED_AFTER_S - 10, 0])
def test_a_cluster_that_has_answered_lately_is_left_alone(running, clock, silent_s):
    before = running.clusters[0].members()
    running._beat()
    clock[0] += WEDGED_AFTER_S + 1
    silent_for(silent_s)
    running._beat()
    assert running.clusters[0].members() == before
    assert repairs() == []


def test_a_cluster_that_has_just_begun_is_given_time_to_answer(running, clock):
    before = running.clusters[0].members()
    running._beat()
    silent_for(3600)
    running._beat()
    assert running.clusters[0].members() == before


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
