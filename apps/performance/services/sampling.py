"""Looking at this process, its host, and what all of them share, every ten seconds.

Each process that works looks at itself. What the whole installation shares (database, Redis,
queue, workers) is looked at by the supervisors, and so are the processes of the task queue that
fork, pass on or wait: a thread and a connection in each would cost more than it tells.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import psutil
from django.conf import settings
from django.db import connection

from apps.caching import services as cache
from apps.common import clock, events, measure
from apps.common.database import fresh_connections
from apps.performance.models import SystemSample
from apps.performance.selectors import in_flight, queue
from apps.tokens.models import ClusterBeat, LoginAttempt, WorkerProcess
from apps.tokens.models.attempts import Outcome
from apps.tokens.services.owner import host_name

EVERY_S: Final = 10.0
SUPERVISOR: Final = "supervisor"
QUEUE: Final = "queue"
_ROLES: Final = {"workers": SUPERVISOR, "qcluster": "worker", "runserver": "web"}
# Rows are kept for a day; longer spans are read from what is measured: column, and its label.
_MEASURED: Final = {
    events.CPU: ("cpu_percent", "host"),
    events.MEMORY: ("memory_percent", "host"),
    events.RSS_BYTES: ("rss_bytes", "role"),
    events.PROCESS_CPU: ("process_cpu_percent", "role"),
    events.OPEN_FILES: ("open_files", "role"),
    events.DATABASE_CONNECTIONS: ("database_connections", ""),
    events.DATABASE_MS: ("database_ms", ""),
    events.QUEUE_DEPTH: ("queue_depth", ""),
    events.IN_FLIGHT: ("in_flight", ""),
}


@dataclass(slots=True)
class _Process:
    """This process and those it looks at; `cpu_percent` needs the same object every time."""

    pid: int
    handle: psutil.Process
    next_s: float
    below: dict[psutil.Process, psutil.Process] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_processes: Final[dict[int, _Process]] = {}


def sample_if_due(*, role: str = "") -> bool:
    """Look and write a row, on average every ten seconds a process; say whether it was."""
    process = _this_process()
    with process.lock:
        late_s = clock.monotonic() - process.next_s
        if late_s < 0:
            return False
        # From when it was due: whoever asks every three seconds is not to look every twelve.
        process.next_s += EVERY_S * (1 + late_s // EVERY_S)
    with fresh_connections():
        row = look(role=role or role_of(sys.argv))
        rows = [*(_below(process, row) if row.role == SUPERVISOR else []), row]
        SystemSample.objects.bulk_create(rows)
    for one in rows:
        _measure(one)
    return True


def identity() -> tuple[str, int]:
    """Return host and process id, as samples name this process."""
    return host_name(), os.getpid()


def look(*, role: str) -> SystemSample:
    """Return a row of this moment, not saved."""
    row = SystemSample(
        at=clock.now(),
        host=host_name(),
        role=role,
        cpu_percent=psutil.cpu_percent(),
        memory_percent=psutil.virtual_memory().percent,
        redis=redis_state(),
        **_own(_this_process().handle),
    )
    if role == SUPERVISOR:
        states, most = connections_by_state()
        for name, value in shared_state(sum(states.values()), most).items():
            setattr(row, name, value)
    return row


def shared_state(connections: int, most: int | None) -> dict[str, Any]:
    """Return what all processes share, by the names of SystemSample's fields."""
    began = time.perf_counter()
    depth, _ = queue(at=clock.now())
    took_ms = (time.perf_counter() - began) * 1000
    return {
        "database_connections": connections or None,
        "database_connections_max": most,
        "database_ms": round(took_ms, 3),
        "queue_depth": depth,
        "in_flight": in_flight(),
        "workers": workers(),
    }


def workers() -> list[dict[str, Any]]:
    """Return the live worker processes with what each is running."""
    at = clock.database_now()
    running: dict[Any, list[dict[str, Any]]] = {}
    attempts = LoginAttempt.objects.filter(outcome=Outcome.OPEN).select_related("site", "account")
    for attempt in attempts.order_by("started_at"):
        running.setdefault(attempt.owner_id, []).append(
            {
                "request": str(attempt.request_id),
                "site": attempt.site.slug,
                "account": attempt.account.username,
                "since_s": round((at - attempt.started_at).total_seconds(), 1),
            }
        )
    return [
        {
            "cluster": row.cluster,
            "host": row.host,
            "pid": row.pid,
            "slots": row.slots,
            "lease_s": round((row.lease_until - at).total_seconds(), 1),
            "running": running.get(row.pk, []),
        }
        for row in WorkerProcess.objects.filter(ended_at=None).order_by("host", "pid")
    ]


def clusters() -> list[dict[str, Any]]:
    """Return when each cluster of the queue was asked for a sign of life, and when it gave one."""
    beats = ClusterBeat.objects.order_by("cluster", "host")
    return [dict(row) for row in beats.values("cluster", "host", "asked_at", "answered_at")]


def redis_state() -> str:
    """Return off, ok or degraded, as this process sees it; asks nobody."""
    return cache.health().status if settings.REDIS_URL else "off"


def role_of(arguments: list[str]) -> str:
    """Return what a process with this command line is for."""
    program = os.path.basename(arguments[0]) if arguments else ""
    if program == "manage.py" and len(arguments) > 1:
        return _ROLES.get(arguments[1], "command")
    return "web" if program in {"uvicorn", "gunicorn", "granian"} else _of_module(arguments)


def _of_module(arguments: list[str]) -> str:
    whole = " ".join(arguments[:2])
    return "web" if any(name in whole for name in ("uvicorn", "gunicorn", "granian")) else "other"


def _this_process() -> _Process:
    pid = os.getpid()
    known = _processes.get(pid)
    if known is None:
        _processes.clear()  # a forked child is no longer its parent
        known = _Process(pid, psutil.Process(), clock.monotonic() + EVERY_S)
        # The first answer of both is meaningless: they compare with the call before.
        known.handle.cpu_percent()
        psutil.cpu_percent()
        _processes[pid] = known
    return known


def _measure(row: SystemSample) -> None:
    for metric, (column, label) in _MEASURED.items():
        value = getattr(row, column)
        # Of the host the supervisor's own row tells already.
        if value is not None and not (label == "host" and row.role == QUEUE):
            measure.observe(metric, value, label=getattr(row, label) if label else "")


def _own(process: psutil.Process) -> dict[str, Any]:
    """Return what concerns one process, by the names of SystemSample's fields."""
    with process.oneshot():
        return {
            "pid": process.pid,
            "process_cpu_percent": process.cpu_percent(),
            "rss_bytes": process.memory_info().rss,
            "open_files": _open_files(process),
            "threads": process.num_threads(),
        }


def _below(process: _Process, own: SystemSample) -> list[SystemSample]:
    """Return rows of the task queue's processes below this one that do not look at themselves."""
    children = process.handle.children(recursive=True)
    new = [child for child in children if child not in process.below]
    process.below = {child: process.below.get(child, child) for child in children}
    since = own.at - timedelta(seconds=3 * EVERY_S)
    others = SystemSample.objects.filter(host=own.host, at__gte=since).exclude(role=QUEUE)
    looking = set(others.values_list("pid", flat=True))
    rows = []
    for child in process.below:
        # Others end at any time, and programs that a login starts are not ours.
        with suppress(psutil.Error):
            if child in new:
                child.cpu_percent()
            elif child.pid not in looking and "qcluster" in child.cmdline():
                rows.append(_row_below(child, own))
    return rows


def _row_below(child: psutil.Process, own: SystemSample) -> SystemSample:
    return SystemSample(
        at=own.at,
        host=own.host,
        role=QUEUE,
        cpu_percent=own.cpu_percent,
        memory_percent=own.memory_percent,
        **_own(child),
    )


def _open_files(process: psutil.Process) -> int | None:
    try:
        return int(process.num_fds())
    except (psutil.Error, AttributeError):  # not on every system
        return None


def connections_by_state() -> tuple[dict[str, int], int | None]:
    """Return PostgreSQL's connections to our database by state, and how many there may be."""
    if connection.vendor != "postgresql":
        return {}, None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(state, 'other'), count(*), current_setting('max_connections')::int "
            "FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' "
            "GROUP BY 1 ORDER BY 1"
        )
        rows = cursor.fetchall()
    return {str(state): int(number) for state, number, _ in rows}, int(rows[0][2])
