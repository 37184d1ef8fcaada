"""Monthly partitions of the facts on PostgreSQL; nothing to do on SQLite.

A partition is made beside the table and then attached: that needs a weak lock on the table, so
writers go on. What has no month of its own lies in the default partition until it gets one.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import structlog
from django.db import OperationalError, connection, transaction

from apps.history.guard import LOCK_SPACE, withdraw
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import days_of_month, month_of, month_start

log = structlog.get_logger(__name__)

TABLE = TokenAcquisitionHistory._meta.db_table
PREFIX = "history_p"
DEFAULT = "history_pdefault"
MONTHS_AHEAD = 3
LOCK_TIMEOUT_MS = 20
# No day has this number; it lets one process at a time change partitions.
_CHANGING = -1


def name_of(month: int) -> str:
    """Return the table name of a month's partition, such as history_p2026_03."""
    return f"{PREFIX}{month_start(month):%Y_%m}"


def is_partitioned() -> bool:
    """Say whether the facts lie in partitions."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", [TABLE])
        row = cursor.fetchone()
    return bool(row and row[0])


def existing() -> dict[int, str]:
    """Return the partitions by month, without the default one."""
    if not is_partitioned():
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = to_regclass(%s)",
            [TABLE],
        )
        names = {name for (name,) in cursor.fetchall()} - {DEFAULT}
    return {int(name[-7:-3]) * 12 + int(name[-2:]) - 1: name for name in sorted(names)}


def ensure(months: Iterable[int]) -> list[str]:
    """Make the partitions that are missing; return their names.

    Rows of such a month are moved out of the default partition in the same transaction. Raises
    OperationalError if the table is in use for longer than a moment; ask again later.
    """
    if not is_partitioned():
        return []
    return [name_of(month) for month in sorted(set(months) - set(existing())) if _make(month)]


def ensure_ahead(at: datetime) -> None:
    """Make the partitions from last month to `MONTHS_AHEAD` months ahead, or leave it for later."""
    current = month_of(at)
    try:
        ensure(range(current - 1, current + MONTHS_AHEAD + 1))
    except OperationalError:
        # There are months of time; meanwhile rows go to the default partition.
        log.warning("history_partition_postponed", exc_info=True)


@transaction.atomic
def _make(month: int) -> bool:
    name = name_of(month)
    bounds = [month_start(month).isoformat(), month_start(month + 1).isoformat()]
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_SPACE, _CHANGING])
        if month in existing():
            return False
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS)")
        # Attaching needs this lock in the end; taken later it would be a deadlock.
        cursor.execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT} "  # noqa: S608  # our own names
            f"WHERE finished_at >= %s AND finished_at < %s RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved",
            bounds,
        )
        cursor.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM "
            f"('{bounds[0]}') TO ('{bounds[1]}')"
        )
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return True


class Contents(NamedTuple):
    """What a partition holds: how many rows, and the sum of their ids."""

    rows: int
    ids: int


def drop(month: int, *, only_if: Contents | None) -> int | None:
    """Drop the partition of a month with its rows; return their number.

    None, and nothing changed, if there is none, or if it holds other rows than `only_if`: one
    came after the archive was written. Raises OperationalError if it is in use for longer than
    a moment.
    """
    name = name_of(month)
    with transaction.atomic(), connection.cursor() as cursor:
        # Writers queue up behind us while we wait for a reader, so we wait for a moment only.
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_SPACE, _CHANGING])
        if month not in existing():
            return None
        withdraw(days_of_month(month))
        # Recording looks at months that are not over, so counting under this lock stops no one.
        cursor.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"SELECT count(*), coalesce(sum(id), 0) FROM {name}")  # noqa: S608  # ours
        found = Contents(*map(int, cursor.fetchone()))
        if only_if is not None and found != only_if:
            return None
        cursor.execute(f"DROP TABLE {name}")
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return found.rows
