"""Strikes the running service, one blow at a time, and writes down what it did."""

import math
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
import redis

from apps.tokens.models import LoginAttempt, WorkerProcess
from tests.chaos.clock import now_s
from tests.chaos.facts import Facts, Killed, Stopped
from tests.chaos.plan import Blow, Plan
from tests.chaos.service import Host, Service, busy_workers, send
from tests.chaos.world import World

FREEZE_S: Final = 2.0


class Undoing:
    """Undoes things at their time in a thread of its own: a stopped process goes on, a host
    comes back. Whoever strikes may itself be waiting for a lock that the stopped one holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, Callable[[], None]]] = []
        threading.Thread(target=self._watch, name="undoing", daemon=True).start()

    def later(self, at_s: float, undo: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append((at_s, undo))

    def all_now(self) -> None:
        """Undo everything that is left; what is being undone is done when this returns."""
        self._undo(math.inf)

    def _watch(self) -> None:
        while True:
            self._undo(now_s())
            time.sleep(0.02)

    def _undo(self, until_s: float) -> None:
        with self._lock:
            for one in [one for one in self._waiting if one[0] <= until_s]:
                self._waiting.remove(one)
                one[1]()


@dataclass(slots=True)
class Striker:
    """`strike` returns False where there is nothing to hit at this moment: try again."""

    plan: Plan
    service: Service
    world: World
    facts: Facts
    redis_url: str
    dice: random.Random
    undoing: Undoing = field(default_factory=Undoing)
    stopped_pids: set[int] = field(default_factory=set)

    def strike(self, blow: Blow) -> bool:
        return bool(getattr(self, f"_{blow.name.lower()}")())

    def revive_supervisors(self) -> None:
        """Do what systemd does for a host whose supervisor has ended."""
        for host in self.service.hosts:
            if host.workers and host.workers.process.poll() is not None:
                self.service.start_workers(host)

    # Kills ----------------------------------------------------------------------------------
    def _kill_login(self) -> bool:
        row = self._victim()
        if row is None:
            return False
        held = LoginAttempt.objects.filter(owner=row.pk, outcome="").values_list("pk", flat=True)
        attempts = tuple(map(str, held))
        if not send(psutil.Process(row.pid), signal.SIGKILL):
            return False
        self.facts.killed.append(Killed(owner=str(row.pk), at_s=now_s(), attempts=attempts))
        return True

    def _kill_part(self) -> bool:
        return self._kill_one_of([part for host in self.service.hosts for part in host.parts()])

    def _kill_sentinel(self) -> bool:
        return self._kill_cluster(Host.sentinels)

    def _kill_main(self) -> bool:
        return self._kill_cluster(Host.mains)

    def _kill_keeper(self) -> bool:
        return self._kill_cluster(Host.keepers)

    def _kill_supervisor(self) -> bool:
        found = [host.supervisor() for host in self.service.hosts]
        return self._kill_one_of([process for process in found if process])

    def _kill_cluster(self, part_of: Callable[[Host], list[psutil.Process]]) -> bool:
        whole = [host for host in self.service.hosts if host.parts()]
        if not self._kill_one_of([part for host in whole for part in part_of(host)]):
            return False
        self.facts.clusters_killed += 1
        return True

    def _kill_one_of(self, found: list[psutil.Process]) -> bool:
        return bool(found) and send(self.dice.choice(found), signal.SIGKILL)

    # Stops ----------------------------------------------------------------------------------
    def _stop(self) -> bool:
        return self._stop_for(self.plan.lease_s + self.dice.uniform(0.1, 1.5))

    def _stop_long(self) -> bool:
        return self._stop_for(self.plan.login_timeout_s + 5 + self.dice.uniform(1, 4))

    def _stop_for(self, seconds: float) -> bool:
        row = self._victim()
        if row is None or not send(psutil.Process(row.pid), signal.SIGSTOP):
            return False
        stopped_s, process = now_s(), psutil.Process(row.pid)
        self.stopped_pids.add(row.pid)

        def go_on() -> None:
            self.facts.stopped.append(
                Stopped(owner=str(row.pk), stopped_s=stopped_s, continued_s=now_s())
            )
            send(process, signal.SIGCONT)
            self.stopped_pids.discard(row.pid)

        self.undoing.later(stopped_s + seconds, go_on)
        return True

    def _cut(self) -> bool:
        """Take a host off the network for longer than its lease."""
        host = self.dice.choice([host for host in self.service.hosts if host.namespace])
        space: Any = host.namespace
        if space.is_cut:
            return False
        space.cut()
        cut_s = now_s()
        held = {row.pk: row for row in busy_workers() if row.host.startswith(f"{host.name}/")}

        def mend() -> None:
            for pk in held:
                self.facts.stopped.append(
                    Stopped(owner=str(pk), stopped_s=cut_s, continued_s=now_s())
                )
            space.mend()

        self.undoing.later(cut_s + self.plan.lease_s + self.dice.uniform(0.5, 3), mend)
        return True

    def _victim(self) -> WorkerProcess | None:
        """Return a living worker that makes logins now and is not stopped."""
        rows = [
            row
            for row in busy_workers()
            if row.pid not in self.stopped_pids and _runs(row.pid, row.process_started_at)
        ]
        return self.dice.choice(rows) if rows else None

    # Changes --------------------------------------------------------------------------------
    def _edit(self, *, wrong: bool = False) -> bool:
        account = self.world.in_flight()
        if account is None:
            return False
        self.world.edit(account, wrong=wrong)
        return True

    def _edit_wrong(self) -> bool:
        return self._edit(wrong=True)

    def _revoke(self) -> bool:
        account = self.world.with_token(self.dice)
        return account is not None and self.world.revoke(account)

    # Valkey ---------------------------------------------------------------------------------
    def _flush(self) -> bool:
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            client.flushall()
        return True

    def _freeze(self) -> bool:
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            process = psutil.Process(client.info("server")["process_id"])
        send(process, signal.SIGSTOP)
        self.undoing.later(now_s() + FREEZE_S, lambda: _go_on(process))
        return True


def _runs(pid: int, started_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started_at) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _go_on(process: psutil.Process) -> None:
    send(process, signal.SIGCONT)
