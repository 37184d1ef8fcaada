"""How the machine and all our processes are now, from their newest samples."""

import sys
from datetime import timedelta
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
    newest: dict[tuple[str, int], SystemSample] = {}
    for row in SystemSample.objects.filter(at__gte=at - FRESH).order_by("at"):
        newest[(row.host, row.pid)] = row
    own = newest.get(sampling.identity())
    if own is None:
        psutil.cpu_percent(interval=SHORT_LOOK_S)
        own = sampling.look(role=sampling.role_of(sys.argv))
        newest[(own.host, own.pid)] = own
    return {
        "at": at,
        "cpu_percent": own.cpu_percent,
        "memory_percent": own.memory_percent,
        "processes": sorted(newest.values(), key=lambda row: (row.host, row.role, row.pid)),
        "redis": sampling.redis_state(),
        **sampling.shared_state(),
    }
