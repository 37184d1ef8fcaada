"""The one lock that admission and completion share, so that counts and choices never race."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from apps.common.clock import database_now

# Any number, the same in all versions of this software: "latchkey" in ASCII, cut to 63 bits.
ADMISSION_LOCK: Final = int.from_bytes(b"latchkey") >> 1
# Who holds it and says nothing for so long is stopped or cut off; PostgreSQL takes it back.
SILENT_FOR_MS: Final = 10_000
_TAKE: Final = "SELECT pg_advisory_xact_lock(%s)"
_BE_HEARD: Final = ", set_config('idle_in_transaction_session_timeout', %s, true)"


@contextmanager
def admission() -> Iterator[datetime]:
    """Open a short transaction that excludes every other admission and completion.

    Yields the time, read once after the lock is held: a time from before the wait would let an
    old lease look alive. A holder who is stopped or cut off loses the lock after `SILENT_FOR_MS`
    and its transaction with it; when it goes on, its database is away (`is_unavailable`). On
    SQLite an IMMEDIATE transaction is the lock. Measured without it on PostgreSQL: READ COMMITTED
    admitted 4 at a limit of 3.
    """
    whole = not connection.in_atomic_block
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                # Inside a longer transaction its owner decides how long it may be silent.
                silent = [str(SILENT_FOR_MS)] if whole else []
                cursor.execute(_TAKE + _BE_HEARD * whole, [ADMISSION_LOCK, *silent])
        yield database_now()
