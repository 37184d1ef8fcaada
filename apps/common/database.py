"""The database as something that can be away for a while."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg
import stamina
from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
)

from apps.common.postgresql.base import DatabaseWrapper

T = TypeVar("T")

UNAVAILABLE: Final = (
    OperationalError,
    InterfaceError,
    sqlite3.OperationalError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
# PostgreSQL has ended the connection of somebody who held a transaction and was not heard of.
CUT_OFF: Final = psycopg.errors.IdleInTransactionSessionTimeout
# SQLite reports mistakes in our own SQL with the class it uses for a locked file.
OUR_MISTAKES: Final = ("no such ", "syntax error", "has no column", "already exists")

ATTEMPTS: Final = 4
LONGEST_RETRY_S: Final = 5.0
FIRST_WAIT_S = 0.05


def is_unavailable(error: BaseException) -> bool:
    """Say whether this error means that the database cannot be used right now.

    That is: unreachable, shutting down, out of connections, locked, or too slow to answer.
    """
    if isinstance(error, CUT_OFF) or isinstance(error.__cause__, CUT_OFF):
        return True
    if not isinstance(error, UNAVAILABLE):
        return False
    text = str(error)
    return not any(mistake in text for mistake in OUR_MISTAKES)


def ping(*, within_s: float) -> None:
    """Ask the database a trifle. Raises OperationalError, on PostgreSQL also where it is silent."""
    connection = connections[DEFAULT_DB_ALIAS]
    if isinstance(connection, DatabaseWrapper):
        connection.answer_within(within_s)
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def with_retry(
    call: Callable[[], T],
    *,
    using: str = DEFAULT_DB_ALIAS,
    attempts: int = ATTEMPTS,
    timeout_s: float = LONGEST_RETRY_S,
) -> T:
    """Return `call()`, repeated after a lost connection at most `attempts` times in `timeout_s`.

    `call` must be safe to repeat: a lost connection may hide a commit. Inside a transaction it
    runs once, because what was written before it is gone with the connection. Raises what the
    last try raised.
    """
    if connections[using].in_atomic_block:
        return call()

    def worth_retrying(error: Exception) -> bool:
        if not is_unavailable(error):
            return False
        connections[using].close()  # the next try opens a new one
        return True

    for attempt in stamina.retry_context(
        on=worth_retrying,
        attempts=attempts,
        timeout=timeout_s,
        wait_initial=FIRST_WAIT_S,
        wait_max=1.0,
    ):
        with attempt:
            return call()
    raise AssertionError("stamina ends with a result or an error")  # pragma: no cover


@contextmanager
def fresh_connections() -> Iterator[None]:
    """For work in threads that Django's request cycle does not know.

    Drops connections that died or grew too old, before the work and after it. Inside a transaction
    the connection is the caller's, and stays.
    """
    if connections[DEFAULT_DB_ALIAS].in_atomic_block:
        yield
        return
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
