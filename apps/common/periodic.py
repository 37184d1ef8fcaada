"""Jobs that something long-lived runs now and then; the supervisor of the workers does.

    @periodic.register("metrics.roll_up", every_s=60)
    def roll_up() -> None: ...

Jobs run one after the other in the caller's thread, so they must be short, and on every host that
has a supervisor, so they must stand being run twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from apps.common.clock import monotonic
from apps.common.database import fresh_connections, is_unavailable

log = structlog.stdlib.get_logger(__name__)

Job = Callable[[], None]


@dataclass(slots=True)
class _Entry:
    every_s: float
    call: Job
    due_s: float = 0.0


_jobs: Final[dict[str, _Entry]] = {}


def register(name: str, every_s: float) -> Callable[[Job], Job]:
    """Register a job; a second one of the same name replaces the first."""

    def add(call: Job) -> Job:
        _jobs[name] = _Entry(every_s, call)
        return call

    return add


def run_due(*, now_s: float | None = None) -> list[str]:
    """Run the jobs that are due, each `every_s` from its last start; return their names.

    A job that fails is logged, and tried again when it is due next. Raises nothing of theirs.
    """
    at_s = monotonic() if now_s is None else now_s
    due = [(name, entry) for name, entry in list(_jobs.items()) if entry.due_s <= at_s]
    for name, entry in due:
        entry.due_s = at_s + entry.every_s
        _run(name, entry.call)
    return [name for name, _ in due]


def _run(name: str, call: Job) -> None:
    try:
        with fresh_connections():
            call()
    except Exception as error:
        if is_unavailable(error):
            log.warning("periodic_job_failed", job=name, error=type(error).__name__)
        else:
            log.exception("periodic_job_failed", job=name)
