"""Asking a database that may be down.

After a failure nothing asks again for a second: a dead host costs its connect time-out each
time, and the callers who could be served from memory would wait for it one after the other.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from django.db import InterfaceError, OperationalError, connection

from apps.common import clock
from apps.common.database import is_unavailable
from apps.common.errors import DatabaseUnavailable

PAUSE_S: Final = 1.0
RETRY_AFTER_S: Final = 2.0

T = TypeVar("T")

# One number, written whole: threads need no lock, and a forked child may inherit it.
_state = {"down_until": 0.0}


def ask(work: Callable[[], T]) -> T:
    """Return what `work` reads or writes. Raises DatabaseUnavailable, at once while it is known."""
    if clock.monotonic() < _state["down_until"]:
        raise DatabaseUnavailable(retry_after_s=RETRY_AFTER_S)
    try:
        return work()
    except (OperationalError, InterfaceError) as error:
        if not is_unavailable(error):
            raise
        _state["down_until"] = clock.monotonic() + PAUSE_S
        # A connection that broke stays broken; without one the next attempt opens a new one.
        if not connection.in_atomic_block:
            connection.close()
        raise DatabaseUnavailable(retry_after_s=RETRY_AFTER_S) from error


def forget() -> None:
    """Ask again at the next call; for tests and for an operator's retry."""
    _state["down_until"] = 0.0
