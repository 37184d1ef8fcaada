"""The supervisor of a host's workers: starts the clusters, keeps them running, repairs.

It does not run tasks itself, so nothing it rescues can block it. Each cluster runs in a process
group of its own under `config/keeper.py`, which lets the group finish its logins and ends it if the
supervisor dies; the next supervisor ends what of it is wedged.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil
import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.db.models import QuerySet
from django_q.tasks import async_task

from apps.common import periodic
from apps.common.clock import database_now, monotonic
from apps.tokens.models import ClusterBeat, LoginAttempt, RecoveryAction
from apps.tokens.models.attempts import Outcome
from apps.tokens.services import hints, keepers, recovery
from apps.tokens.services.owner import STOP_TAKING, host_name

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
SWEEP_EVERY_S: Final = 2.0
WAKE_EVERY_S: Final = 5.0
STOP_AGAIN_S: Final = 0.5
BEAT_EVERY_S: Final = 5.0
WEDGED_AFTER_S: Final = 75.0
# Where no login runs nothing is lost by replacing a cluster, unless it is only slow to start.
IDLE_WEDGED_AFTER_S: Final = 30.0
# A cluster that is to end, logs in nowhere and computes nothing for so long will not end.
STUCK_AFTER_S: Final = 10.0
# What a cluster's processes use in a second while they run no task, at most: two ticks.
BACKGROUND_S: Final = 0.02
RESTART_WAIT_S: Final = 1.0
KEEPER_ENDS_WITHIN_S: Final = 5.0
RESTART_WAIT_MAX_S: Final = 30.0
BEAT: Final = "apps.tokens.tasks.beat"


@dataclass(slots=True)
class Cluster:
    """One django-q2 cluster of this host, as a process group under a keeper."""

    name: str
    grace_s: float
    process: subprocess.Popen[bytes] | keepers.LeftKeeper | None = None
    started_s: float = 0.0
    restarts: int = 0
    slow_starts: int = 0
    worked_s: float = 0.0
    worked_at_s: float = 0.0
    start_at_s: float = 0.0
    group: int | None = None

    def start(self) -> None:
        """Start the cluster and its keeper."""
        keeper = settings.BASE_DIR / "config" / "keeper.py"
        manage = settings.BASE_DIR / "manage.py"
        self.process = subprocess.Popen(  # noqa: S603 - our own files and numbers
            [
                sys.executable,
                str(keeper),
                f"--parent={os.getpid()}",
                f"--grace={self.grace_s:g}",
                "--",
                sys.executable,
                str(manage),
                "qcluster",
            ],
            env={**os.environ, "Q_CLUSTER_NAME": self.name, keepers.KEPT: "yes"},
            # Whoever kills our group must not kill the keeper: it has to end the cluster.
            process_group=0,
        )
        self.started_s, self.group = monotonic(), None
        log.info("cluster_started", cluster=self.name, pid=self.process.pid)

    def members(self) -> list[psutil.Process]:
        """Return the processes of the cluster, the keeper left out; remember their group."""
        if self.process is None:
            return []
        try:
            keeper = psutil.Process(self.process.pid)
            for main in keeper.children():
                self.group = main.pid  # the keeper makes it the leader of a group
            return keeper.children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def ended(self) -> bool:
        """Say whether the cluster has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Ask for a drain: no new work, finish what runs. The keeper waits for `grace_s`."""
        if self.process is None or self.process.poll() is not None:
            return
        self.worked_at_s = monotonic()
        self.stop_drains()
        self.process.terminate()

    def works(self) -> bool:
        """Say whether the processes that run tasks computed since this was last asked.

        More than their background threads do, which look around now and then in a wedged one too.
        """
        before, self.worked_s = self.worked_s, 0.0
        mains = _below(self.process.pid) if self.process else []  # below the keeper
        sentinels = [sentinel for main in mains for sentinel in _below(main.pid)]
        tasks = [task for sentinel in sentinels for task in _below(sentinel.pid)]
        for task in tasks:
            with suppress(psutil.NoSuchProcess):
                spent = task.cpu_times()
                self.worked_s += spent.user + spent.system
        return self.worked_s - before > BACKGROUND_S

    def stop_drains(self) -> None:
        """Tell the processes that are draining now to take nothing more; the others ignore it.

        Called again and again while stopping, because a hint that was queued may still begin
        another drain.
        """
        for member in self.members():
            with suppress(psutil.NoSuchProcess):
                member.send_signal(STOP_TAKING)

    def kill(self) -> None:
        """End the whole group at once; whatever it was doing is recovered.

        One signal to the group: killed one by one, the sentinel would make new ones meanwhile.
        Also ends what a killed keeper has left behind.
        """
        self._kill_group()
        if self.process is not None:
            try:
                self.process.wait(KEEPER_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._kill_group()  # it had not begun when we looked
                self.process.kill()
                self.process.wait()

    def _kill_group(self) -> None:
        self.members()
        if self.group is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGKILL)


@dataclass(slots=True)
class Supervisor:
    """Runs until told to stop. `say` writes a line for whoever watches the terminal."""

    say: Callable[[str], None]
    grace_s: float = 130.0
    clusters: list[Cluster] = field(default_factory=list)
    left: list[Cluster] = field(default_factory=list)
    stopping: bool = False
    _next: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Start everything, keep it running, and drain when stopped."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self.clusters = [Cluster(name, self.grace_s) for name in hints.clusters()]
        keepers.end_unkept()
        self._adopt()
        for cluster in self.clusters:
            cluster.start()
        self.say(f"Workers are running ({', '.join(c.name for c in self.clusters)}).")
        while not self.stopping:
            self._guarded("revive", TICK_S, self._revive)
            self._guarded("tick", TICK_S, self._tick)
            self._guarded("sweep", SWEEP_EVERY_S, self._sweep)
            self._guarded("wake", WAKE_EVERY_S, self._wake)
            self._guarded("beat", BEAT_EVERY_S, self._beat)
            self._guarded("end_left", TICK_S, self._end_left)
            periodic.run_due()
            time.sleep(TICK_S / 4)
        self._drain()

    def _adopt(self) -> None:
        """Take over what a killed supervisor has left; its keepers have told it to stop."""
        self.left = [
            Cluster(name, 0.0, keeper, worked_at_s=monotonic())
            for name, keeper in keepers.left_behind()
        ]

    def _on_signal(self, *_: object) -> None:
        self.stopping = True

    def _guarded(self, name: str, every_s: float, job: Callable[[], None]) -> None:
        """Run a job when it is due; a database that is away is only said."""
        if monotonic() < self._next.get(name, 0.0):
            return
        self._next[name] = monotonic() + every_s
        try:
            close_old_connections()
            job()
        except DatabaseError as error:
            log.warning("supervisor_job_failed", job=name, error=type(error).__name__)

    def _tick(self) -> None:
        """Hint at every cluster that has something to run: hints get lost, rows do not."""
        for cluster in recovery.runnable_clusters():
            hints.send_to(cluster)

    def _wake(self) -> None:
        recovery.wake_stale_waiters()

    def _sweep(self) -> None:
        recovery.sweep()

    def _revive(self) -> None:
        for cluster in self.clusters:
            cluster.members()
            if cluster.ended():
                cluster.kill()
                keepers.end_unkept()
                self._schedule_restart(cluster, "cluster_ended")
            if cluster.process is None and monotonic() >= cluster.start_at_s:
                cluster.start()

    def _beat(self) -> None:
        """Ask each cluster for a sign of life through its queue; replace the one that is wedged."""
        at = database_now()
        for cluster in self.clusters:
            beat, made = ClusterBeat.objects.get_or_create(
                cluster=cluster.name, host=host_name(), defaults={"asked_at": at}
            )
            heard = beat.answered_at or beat.asked_at
            silent_s, lived_s = (at - heard).total_seconds(), monotonic() - cluster.started_s
            has_answered = beat.answered_at is not None and silent_s < lived_s
            patience_s = self._patience_s(cluster, has_answered=has_answered)
            if not made and min(silent_s, lived_s) > patience_s and cluster.process is not None:
                cluster.slow_starts += not has_answered
                self._replace(cluster)
            ClusterBeat.objects.filter(pk=beat.pk).update(asked_at=at)
            async_task(BEAT, cluster.name, host_name(), cluster=cluster.name, save=False)

    def _patience_s(self, cluster: Cluster, *, has_answered: bool) -> float:
        """Return how long a cluster may be silent: longer while it logs in, or if slow to start."""
        if self._logins(cluster).exists():
            return WEDGED_AFTER_S
        if has_answered:
            cluster.slow_starts = 0
        return min(WEDGED_AFTER_S, IDLE_WEDGED_AFTER_S * 2.0**cluster.slow_starts)

    def _logins(self, cluster: Cluster) -> QuerySet[LoginAttempt]:
        """Return the open logins of this host's part of a cluster."""
        logins = LoginAttempt.objects.filter(outcome=Outcome.OPEN)
        if cluster in self.left:
            # By its processes: the one that took its place has the same name, and where hosts
            # share a table of processes it may be another's.
            return logins.filter(owner__pid__in=[member.pid for member in cluster.members()])
        return logins.filter(owner__host=host_name(), owner__cluster=cluster.name)

    def _replace(self, cluster: Cluster) -> None:
        """Replace a wedged cluster, its whole process group."""
        log.error("cluster_wedged", cluster=cluster.name)
        cluster.kill()
        self._schedule_restart(cluster, "cluster_wedged")

    def _schedule_restart(self, cluster: Cluster, kind: str) -> None:
        lived_s = monotonic() - cluster.started_s
        cluster.restarts = 0 if lived_s > RESTART_WAIT_MAX_S else cluster.restarts + 1
        wait_s = min(RESTART_WAIT_MAX_S, RESTART_WAIT_S * 2**cluster.restarts)
        cluster.process, cluster.start_at_s = None, monotonic() + wait_s
        self.say(f"Cluster {cluster.name} has ended; it starts again in {wait_s:g} s.")
        RecoveryAction.objects.create(
            at=database_now(),
            kind=kind,
            subject=cluster.name,
            details={"lived_s": round(lived_s, 1), "restart_in_s": wait_s},
        )

    def _drain(self) -> None:
        """Stop all clusters, and report what is still running now and then."""
        for cluster in self.clusters:
            cluster.stop()
        told_at = 0.0
        every = [*self.clusters, *self.left]
        while any(c.process is not None and c.process.poll() is None for c in every):
            self._guarded("stop_drains", STOP_AGAIN_S, self._stop_drains)
            self._guarded("end_stuck", TICK_S, self._end_stuck)
            self._guarded("end_left", TICK_S, self._end_left)
            if monotonic() - told_at > 5.0:
                told_at = monotonic()
                running = self._running()
                self.say(f"Finishing {running} running logins." if running else "Stopping.")
            time.sleep(0.1)
        keepers.end_unkept()
        self._guarded("sweep", 0.0, self._sweep)

    def _stop_drains(self) -> None:
        for cluster in self.clusters:
            cluster.stop_drains()

    def _end_stuck(self) -> None:
        for cluster in self.clusters:
            self._end_if_stuck(cluster)

    def _end_left(self) -> None:
        for cluster in self.left:
            cluster.stop_drains()
            self._end_if_stuck(cluster)
        self.left = [cluster for cluster in self.left if not cluster.ended()]

    def _end_if_stuck(self, cluster: Cluster) -> None:
        """End a cluster that was wedged when it was told to stop: it would use up all its grace."""
        if cluster.process is None or cluster.process.poll() is not None:
            return
        if cluster.works() or self._logins(cluster).exists():
            cluster.worked_at_s = monotonic()
        elif monotonic() - cluster.worked_at_s > STUCK_AFTER_S:
            log.error("cluster_wedged", cluster=cluster.name, stopping=True)
            cluster.kill()
            RecoveryAction.objects.create(
                at=database_now(),
                kind="cluster_wedged",
                subject=cluster.name,
                details={"stopping": True},
            )

    def _running(self) -> int:
        own = LoginAttempt.objects.filter(outcome=Outcome.OPEN, owner__host=host_name())
        return own.count()


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
