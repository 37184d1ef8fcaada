"""How the machine and all our processes are now, from their newest samples."""

import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import psutil

from apps.common import clock
from apps.performance.models import SystemSample
from apps.performance.services import sampling

FRESH: Final = timedelta(seconds=30)
SHORT_LOOK_S: Final = 0.1


def usage() -> dict[str, Any]:
    """Return the host of this process, every process seen in the last half minute, and the rest.

    A process that is too young to have been sampled is looked at for a tenth of a second.
    """
    at = clock.now()
    newest = {(row.host, row.pid): row for row in fresh(at)}
    own = newest.get(sampling.identity())
    if own is None:
        psutil.cpu_percent(interval=SHORT_LOOK_S)
        own = sampling.look(role=sampling.role_of(sys.argv))
        newest[(own.host, own.pid)] = own
    states, most = sampling.connections_by_state()
    return {
        "at": at,
        "cpu_percent": own.cpu_percent,
        "memory_percent": own.memory_percent,
        "processes": _ordered(newest.values()),
        "redis": sampling.redis_state(),
        "database_states": states,
        "clusters": sampling.clusters(),
        **sampling.shared_state(sum(states.values()), most),
    }


def fresh(at: datetime) -> list[SystemSample]:
    """Return the newest sample of each process that was seen in the half minute before `at`."""
    newest: dict[tuple[str, int], SystemSample] = {}
    for row in SystemSample.objects.filter(at__gte=at - FRESH, at__lte=at).order_by("at"):
        newest[(row.host, row.pid)] = row
    return _ordered(newest.values())


def _ordered(rows: Iterable[SystemSample]) -> list[SystemSample]:
    return sorted(rows, key=lambda row: (row.host, row.role, row.pid))
