"""The times this software goes by.

Rows carry the database's time, so that hosts with different clocks agree. Durations inside one
process are measured with the monotonic clock.
"""

import time
from datetime import UTC, datetime

from django.db import DEFAULT_DB_ALIAS, connections


def now() -> datetime:
    """Return this host's time, in UTC."""
    return datetime.now(tz=UTC)


def database_now(using: str = DEFAULT_DB_ALIAS) -> datetime:
    """Return the database's time, in UTC, as of this call (not of the transaction's start).

    On SQLite the database is this host, so this host's clock is the database's.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (value,) = cursor.fetchone()
    return value.astimezone(UTC)  # type: ignore[no-any-return]


def monotonic() -> float:
    """Return seconds on a clock that never jumps; for durations only."""
    return time.monotonic()
