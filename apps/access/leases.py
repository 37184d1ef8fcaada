"""Rate limits that hold across all processes without a write per request.

A window is one minute of the clock. A process takes a chunk of a caller's allowance from the
window's row by one conditional upsert and hands it out locally. Chunks begin at 1, or at half of
what the minute before had come to, and double up to 1/40 of the limit, so a process that asks
little holds little back: four processes of which three fell silent still leave more than 90 % to
the fourth.
"""

import functools
import math
import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cachetools import LRUCache
from django.db import connection

from apps.access import outage
from apps.access.models import RateWindow
from apps.common import clock
from apps.common.errors import DatabaseUnavailable

WINDOW_S: Final = 60
CHUNKS_PER_LIMIT: Final = 40
MAX_CALLERS: Final = 4_096
KEEP_WINDOWS: Final = timedelta(minutes=10)


@dataclass(slots=True)
class Lease:
    """What this process holds of one caller's allowance in one window."""

    window: int
    left: int = 0
    handed_out: int = 0
    chunk: int = 1
    exhausted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Leases:
    """The leases of this process; bounded, thread-safe, reset in forked children."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Hold nothing. What was leased and not used is lost to the window, never doubled."""
        self._lock = threading.Lock()
        self._leases: LRUCache[str, Lease] = LRUCache(MAX_CALLERS)

    def of(self, caller: str, window: int) -> Lease:
        """Return the lease for this window; an older one is dropped."""
        with self._lock:
            lease = self._leases.get(caller)
            if lease is None or lease.window != window:
                chunk = lease.chunk // 4 if lease is not None else 1
                lease = self._leases[caller] = Lease(window, chunk=max(1, chunk))
            return lease


LEASES: Final = Leases()
os.register_at_fork(after_in_child=LEASES.reset)


def take(caller: str, *, limit: int) -> float:
    """Take one request from the caller's minute; return 0, or the seconds until the next minute.

    While the database is down each process allows `limit` a minute on its own.
    """
    now = clock.now().timestamp()
    window = math.floor(now / WINDOW_S)
    lease = LEASES.of(caller, window)
    with lease.lock:
        if lease.left < 1 and not lease.exhausted:
            _refill(lease, caller, limit)
        if lease.left < 1:
            return max(0.001, (window + 1) * WINDOW_S - now)
        lease.left -= 1
        lease.handed_out += 1
        return 0.0


def take_held(caller: str) -> bool:
    """Take one request from what this process holds; False if that needs the database.

    Never waits, so an event loop may call it.
    """
    lease = LEASES.of(caller, math.floor(clock.now().timestamp() / WINDOW_S))
    if not lease.lock.acquire(blocking=False):
        return False
    try:
        if lease.left < 1:
            return False
        lease.left -= 1
        lease.handed_out += 1
        return True
    finally:
        lease.lock.release()


def prune(now: datetime) -> int:
    """Delete the windows that ended 10 minutes before `now`; return how many."""
    return RateWindow.objects.filter(starts_at__lt=now - KEEP_WINDOWS).delete()[0]


def _refill(lease: Lease, caller: str, limit: int) -> None:
    chunk = min(lease.chunk, max(1, limit // CHUNKS_PER_LIMIT))
    try:
        while chunk >= 1:
            # Less than a chunk may be left in the row: half of it then, down to one.
            if outage.ask(functools.partial(_claim, caller, lease.window, chunk, limit)):
                lease.left, lease.chunk = chunk, chunk * 2
                return
            chunk //= 2
        lease.exhausted = True
    except DatabaseUnavailable:
        lease.left = 1 if lease.handed_out < limit else 0


def _claim(caller: str, window: int, chunk: int, limit: int) -> bool:
    """Add `chunk` to the row if the sum stays within `limit`; one statement, no reading first."""
    if chunk > limit:
        return False
    row = RateWindow(
        principal=caller,
        starts_at=datetime.fromtimestamp(window * WINDOW_S, tz=UTC),
        used=chunk,
    )
    values = [
        column.get_db_prep_save(getattr(row, column.attname), connection)
        for column in RateWindow._meta.concrete_fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO access_ratewindow (id, principal, starts_at, used)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (principal, starts_at) DO UPDATE"
            " SET used = access_ratewindow.used + excluded.used"
            " WHERE access_ratewindow.used + excluded.used <= %s",
            [*values, limit],
        )
        return bool(cursor.rowcount == 1)
