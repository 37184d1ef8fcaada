"""Keeps cells and facts consistent: who writes a fact withdraws the roll-up of its day.

Without a lock a roll-up could miss a fact that is written but not yet committed, and vouch for a
day it has not seen whole. So writers hold a shared lock on the day until they commit, and the
roll-up takes it alone, reading after it has the lock. On SQLite a write transaction is alone.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import connection
from django.db.models import Q

from apps.history.models import Level, Rollup
from apps.history.periods import month_of_day

# Any constant will do; it keeps our two-part advisory locks apart from others'.
LOCK_SPACE = 0x4C4B48
# No day has this number.
_RESTORING = -2


def withdraw(days: Iterable[int]) -> None:
    """Withdraw the roll-ups of these days and of their months; call before writing facts.

    Must run in the transaction that writes. Days are locked in order, against deadlocks.
    """
    ordered = sorted(set(days))
    _require_transaction()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock_shared(%s, day) FROM unnest(%s::int[]) AS day",
                [LOCK_SPACE, ordered],
            )
    months = {month_of_day(day) for day in ordered}
    Rollup.objects.filter(
        Q(level=Level.DAY, period__in=ordered) | Q(level=Level.MONTH, period__in=months)
    ).delete()


def try_alone(day: int) -> bool:
    """Take the day for a roll-up until the transaction ends; False if somebody is writing it."""
    _require_transaction()
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCK_SPACE, day])
        (mine,) = cursor.fetchone()
    return bool(mine)


def one_at_a_time(request_id: UUID) -> None:
    """Let only one transaction at a time record this request."""
    _require_transaction()
    if connection.vendor == "postgresql":
        key = int.from_bytes(request_id.bytes[:8], signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def one_restore_at_a_time() -> None:
    """Let only one transaction at a time bring archived facts back; on SQLite it is alone."""
    _require_transaction()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_SPACE, _RESTORING])


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise RuntimeError("The history's guard needs a transaction.")
