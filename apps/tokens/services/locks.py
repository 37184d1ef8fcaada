"""The one lock that admission and completion share, so that counts and choices never race."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from apps.common.clock import database_now

# Any number, the same in all versions of this software: "latchkey" in ASCII, cut to 63 bits.
ADMISSION_LOCK: Final = int.from_bytes(b"latchkey") >> 1


@contextmanager
def admission() -> Iterator[datetime]:
    """Open a short transaction that excludes every other admission and completion.

    Yields the time, read once after the lock is held: a time from before the wait would let an
    old lease look alive. On SQLite an IMMEDIATE transaction is the lock. Measured without it on
    PostgreSQL: READ COMMITTED admitted 4 at a limit of 3.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADMISSION_LOCK])
        yield database_now()
