"""Whether anybody does the work: the queue's heartbeat, and the processes that log in."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from apps.common import clock
from apps.performance.models.alerts import Severity
from apps.performance.services.health_checks import Facts, Unwell, reason
from apps.tokens.models import AdmissionLimits, ClusterBeat, WorkerProcess


@dataclass(frozen=True, slots=True)
class QueueCheck:
    """Tasks come back through the queue of every cluster.

    Only a task that returns proves that tasks run. Beats of hosts that have asked nothing for
    `gone_after` are of machines that are no more.
    """

    name: str = "queue"
    needs_database: bool = True
    silent_after: timedelta = timedelta(seconds=75)
    gone_after: timedelta = timedelta(hours=1)

    def run(self) -> Facts:
        at = clock.database_now()
        alive: dict[str, list[bool]] = defaultdict(list)
        for beat in ClusterBeat.objects.filter(asked_at__gt=at - self.gone_after):
            heard = beat.answered_at
            alive[beat.cluster].append(heard is not None and at - heard <= self.silent_after)
        facts = {name: {"hosts": len(all_), "alive": sum(all_)} for name, all_ in alive.items()}
        if not alive:
            text = "No workers have been seen for an hour: nothing logs in."
            raise Unwell(reason("no_workers", Severity.HIGH, text))
        found = []
        for name, hosts in sorted(alive.items()):
            if not any(hosts):
                text = f"No task of the cluster {name} has come back for {self.silent_after}."
                found.append(reason("queue_silent", Severity.HIGH, text))
            elif not all(hosts):
                text = f"On {hosts.count(False)} hosts no task of the cluster {name} comes back."
                found.append(reason("queue_silent_on_host", Severity.MEDIUM, text))
        if found:
            raise Unwell(*found, facts=facts)
        return facts


@dataclass(frozen=True, slots=True)
class WorkersCheck:
    """Processes that make logins renew their leases."""

    name: str = "workers"
    needs_database: bool = True

    def run(self) -> Facts:
        at = clock.database_now()
        lease = timedelta(seconds=AdmissionLimits.current().lease_s)
        running = WorkerProcess.objects.filter(ended_at=None)
        silent = running.filter(lease_until__lt=at - lease).count()
        facts = {"running": running.count(), "silent": silent}
        if silent:
            text = f"{silent} worker processes are silent and may hold permits."
            raise Unwell(reason("workers_silent", Severity.MEDIUM, text), facts=facts)
        return facts
