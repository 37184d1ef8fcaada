"""One consistent view of the database for several queries."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from apps.history.models import TokenAcquisitionHistory

FACTS = TokenAcquisitionHistory._meta.db_table


@contextmanager
def snapshot() -> Iterator[None]:
    """Let all queries inside see the same moment, without keeping a writer waiting.

    Partitions cannot be dropped meanwhile; who wants to gives up after a moment.
    Inside a transaction of the caller nothing is changed: SQLite gives a snapshot there anyway,
    PostgreSQL only if the caller chose REPEATABLE READ.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            # A snapshot does not keep a month from being dropped. A lock takes none: what is
            # seen is of the first query after it (PostgreSQL's manual, LOCK).
            cursor.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; "
                f"LOCK TABLE {FACTS} IN ACCESS SHARE MODE"
            )
            yield
    else:
        # atomic() would BEGIN IMMEDIATE and so queue up with the writers.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
