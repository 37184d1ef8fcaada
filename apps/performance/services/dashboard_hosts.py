"""The machines and our processes on them, from the newest samples. One query."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from apps.performance.models import SystemSample
from apps.performance.services import resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine. `processes` is role → how many; `running` the logins of its workers."""

    name: str
    cpu_percent: float
    memory_percent: float
    processes: tuple[tuple[str, int], ...]
    rss_bytes: int
    open_files: int
    redis: str
    running: int
    connections: str


def hosts(at: datetime) -> list[Host]:
    """Return the machines whose processes have reported in the last half minute, by name."""
    found = resources.fresh(at)
    connections = next((_connections(row) for row in found if row.database_connections_max), "")
    workers: list[dict[str, object]] = next((row.workers for row in found if row.workers), [])
    return [
        _host(name, list(rows), workers, connections)
        for name, rows in groupby(found, key=lambda row: row.host)
    ]


def _host(
    name: str, rows: list[SystemSample], workers: list[dict[str, object]], connections: str
) -> Host:
    # Processes that are looked at from outside do not say how they see Redis.
    newest = max(rows, key=lambda row: (row.at, row.redis))
    states = {row.redis for row in rows}
    return Host(
        name=name,
        cpu_percent=newest.cpu_percent,
        memory_percent=newest.memory_percent,
        processes=tuple(sorted(Counter(row.role for row in rows).items())),
        rss_bytes=sum(row.rss_bytes for row in rows),
        open_files=sum(row.open_files or 0 for row in rows),
        redis="degraded" if "degraded" in states else newest.redis,
        running=sum(_logins(worker) for worker in workers if worker.get("host") == name),
        connections=connections,
    )


def _logins(worker: dict[str, object]) -> int:
    running = worker.get("running")
    return len(running) if isinstance(running, list) else 0


def _connections(row: SystemSample) -> str:
    return f"{row.database_connections} of {row.database_connections_max}"
