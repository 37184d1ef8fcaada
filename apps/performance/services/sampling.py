"""Looking at this process, its host, and what all of them share, every ten seconds.

Each long-lived process looks at itself. What the whole installation shares (database, Redis,
queue, workers) is looked at by the supervisors.
"""

import os
import sys
import threading
import time
from dataclasses import dataclass, field
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
_ROLES: Final = {"workers": SUPERVISOR, "qcluster": "worker", "runserver": "web"}


@dataclass(slots=True)
class _Process:
    """This process; `cpu_percent` needs the same object every time."""

    pid: int
    psutil: psutil.Process
    next_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)


_processes: Final[dict[int, _Process]] = {}


def sample_if_due(*, role: str = "") -> bool:
    """Look and write a row, at most every ten seconds a process; say whether it was."""
    process = _this_process()
    with process.lock:
        if clock.monotonic() < process.next_s:
            return False
        process.next_s = clock.monotonic() + EVERY_S
    with fresh_connections():
        row = look(role=role or role_of(sys.argv))
        row.save(force_insert=True)
    # Rows are kept for a day; longer spans are read from what is measured.
    measure.observe(events.CPU, row.cpu_percent, label=row.host)
    measure.observe(events.MEMORY, row.memory_percent, label=row.host)
    measure.observe(events.RSS_BYTES, row.rss_bytes, label=row.role)
    measure.observe(events.PROCESS_CPU, row.process_cpu_percent, label=row.role)
    return True


def identity() -> tuple[str, int]:
    """Return host and process id, as samples name this process."""
    return host_name(), os.getpid()


def look(*, role: str) -> SystemSample:
    """Return a row of this moment, not saved."""
    process = _this_process().psutil
    with process.oneshot():
        row = SystemSample(
            at=clock.now(),
            host=host_name(),
            pid=process.pid,
            role=role,
            cpu_percent=psutil.cpu_percent(),
            memory_percent=psutil.virtual_memory().percent,
            process_cpu_percent=process.cpu_percent(),
            rss_bytes=process.memory_info().rss,
            open_files=_open_files(process),
            threads=process.num_threads(),
            redis=redis_state(),
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
        known.psutil.cpu_percent()
        psutil.cpu_percent()
        _processes[pid] = known
    return known


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
