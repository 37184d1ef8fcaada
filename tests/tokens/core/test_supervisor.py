"""The supervisor against real process groups: a keeper of ours, and a queue that only sleeps."""

import os
import shutil
import signal
import subprocess
import sys
from copy import copy
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from apps.common.clock import database_now
from apps.tokens.models import ClusterBeat, RecoveryAction, WorkerProcess
from apps.tokens.services import keepers, supervisor
from apps.tokens.services.owner import host_name
from apps.tokens.services.supervisor import (
    IDLE_WEDGED_AFTER_S,
    STUCK_AFTER_S,
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

# One that was wedged when it was told to stop, and one that is at its last task.
WEDGED = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + QUEUE
AT_WORK = WEDGED.replace("time.sleep(600)", "\nwhile os.getppid() != 1: pass")

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue():
    """The program that stands for a cluster; a test may have one of its own."""
    return QUEUE


@pytest.fixture
def clock(monkeypatch):
    hands = [1000.0]
    monkeypatch.setattr(supervisor, "monotonic", lambda: hands[0])
    return hands


@pytest.fixture
def running(settings, tmp_path, clock, queue):
    """A supervisor with one cluster whose processes are all there."""
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "keeper.py", tmp_path / "config")
    (tmp_path / "manage.py").write_text(queue)
    settings.BASE_DIR = tmp_path
    found = Supervisor(say=lambda line: None, clusters=[Cluster("default", grace_s=60)])
    found._revive()
    eventually(lambda: len(found.clusters[0].members()) == 3)
    yield found
    (cluster,) = found.clusters
    eventually(lambda: cluster.ended() or cluster.members())
    cluster.kill()


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


def alive_after(running, clock, seconds, *, between_looks=lambda: True):
    """Look at a cluster that was told to stop each second; say which processes still run."""
    (cluster,) = running.clusters
    before = cluster.members()
    for _ in range(seconds):
        clock[0] += 1
        eventually(between_looks)
        running._end_stuck()
    return [_lives(one) for one in before]


@pytest.mark.parametrize("queue", [WEDGED], ids=["wedged"])
def test_a_cluster_that_was_wedged_when_it_was_stopped_is_ended(running, clock):
    running.clusters[0].stop()
    assert alive_after(running, clock, round(STUCK_AFTER_S)) == [True] * 3
    assert repairs() == []
    assert alive_after(running, clock, 1) == [False] * 3
    assert repairs() == [("cluster_wedged", "default")]


@pytest.mark.parametrize("queue", [WEDGED], ids=["wedged"])
def test_a_stopped_cluster_that_logs_in_has_its_grace(running, clock):
    make_account(make_site())
    ask()
    assert claim()
    running.clusters[0].stop()
    assert alive_after(running, clock, 2 * round(STUCK_AFTER_S)) == [True] * 3


@pytest.mark.parametrize("queue", [AT_WORK], ids=["at work"])
def test_a_stopped_cluster_that_computes_has_its_grace(running, clock):
    (cluster,) = running.clusters
    looks = 2 * round(STUCK_AFTER_S)
    cluster.stop()
    alive = alive_after(running, clock, looks, between_looks=lambda: copy(cluster).works())
    assert alive == [True] * 3


READY = "open(__file__ + '.ready', 'w').close()"
# A supervisor that is killed when the cluster it has started is there.
KILLED = """
import os, signal, subprocess, sys, time
keeper = [sys.executable, sys.argv[1], f"--parent={os.getpid()}", "--grace=60", "--"]
subprocess.Popen([*keeper, sys.executable, sys.argv[2], "qcluster"], process_group=0)
while not os.path.exists(sys.argv[2] + ".ready"):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def heir(settings, tmp_path, clock, monkeypatch):
    """The supervisor after one that was killed; its cluster, which is wedged, still runs."""
    (tmp_path / "config").mkdir(exist_ok=True)
    shutil.copy(ROOT / "config" / "keeper.py", tmp_path / "config")
    (tmp_path / "manage.py").write_text(WEDGED.replace("import os", f"{READY}\nimport os"))
    settings.BASE_DIR = tmp_path
    monkeypatch.setenv("DATABASE_URL", "sqlite:///one")
    told = os.environ | {"Q_CLUSTER_NAME": "default", keepers.KEPT: "yes"}
    files = [str(tmp_path / "config" / "keeper.py"), str(tmp_path / "manage.py")]
    subprocess.run([sys.executable, "-c", KILLED, *files], env=told, check=False)
    eventually(keepers.left_behind)
    found = Supervisor(say=lambda line: None)
    found._adopt()
    (cluster,) = found.left
    eventually(lambda: len(cluster.members()) == 3)
    yield found
    cluster.kill()


def looked_after(heir, clock, seconds):
    (cluster,) = heir.left
    before = cluster.members()
    for _ in range(seconds):
        clock[0] += 1
        heir._end_left()
    return [_lives(one) for one in before]


def test_what_a_killed_supervisor_left_wedged_is_ended_by_the_next(heir, clock):
    assert looked_after(heir, clock, round(STUCK_AFTER_S)) == [True] * 3
    assert looked_after(heir, clock, 1) == [False] * 3
    assert repairs() == [("cluster_wedged", "default")]
    assert heir.left == []


def test_what_a_killed_supervisor_left_may_finish_its_logins(heir, clock):
    make_account(make_site())
    ask()
    assert claim()
    worker = heir.left[0].members()[-1]
    WorkerProcess.objects.update(pid=worker.pid, host="another that shares our processes")
    assert looked_after(heir, clock, 2 * round(STUCK_AFTER_S)) == [True] * 3
    WorkerProcess.objects.update(pid=1)  # another's login does not count
    assert looked_after(heir, clock, 1 + round(STUCK_AFTER_S)) == [False] * 3


def test_what_runs_for_another_database_is_left_alone(heir, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:///another")
    assert keepers.left_behind() == []
    keepers.end_unkept()
    assert len(heir.left[0].members()) == 3


@pytest.mark.parametrize("queue", [QUEUE, WEDGED], ids=["ends", "wedged"])
def test_what_a_keeper_leaves_that_is_killed_before_anybody_looked_is_ended(running, clock):
    """The leader of the group may be gone as well: the kernel ends it with its keeper."""
    (cluster,) = running.clusters
    members, cluster.group = cluster.members(), None
    os.kill(cluster.process.pid, signal.SIGKILL)
    eventually(cluster.ended)
    running._revive()
    eventually(lambda: not any(_lives(one) for one in members))
    assert repairs() == [("cluster_ended", "default")]
    clock[0] = cluster.start_at_s
    running._revive()
    eventually(lambda: len(cluster.members()) == 3)


@pytest.mark.parametrize("queue", [WEDGED], ids=["wedged"])
def test_what_has_a_keeper_is_left_alone(running, heir):
    """That of another supervisor as well."""
    keepers.end_unkept()
    assert [len(one.members()) for one in (*running.clusters, *heir.left)] == [3, 3]


def test_a_cluster_whose_supervisor_lives_is_left_alone(running, monkeypatch):
    assert running.clusters[0].members()
    assert keepers.left_behind() == []


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
