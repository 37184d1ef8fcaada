"""Writing measurements: one additive INSERT, and honesty about what was committed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from django.db import (
    DEFAULT_DB_ALIAS,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)

from apps.common import clock
from apps.common.database import fresh_connections
from apps.common.measure import NotStored, Refused, Row
from apps.performance.models import MetricBucket, Resolution
from apps.performance.selectors import shown_since

log = structlog.stdlib.get_logger(__name__)

# SQLite takes 32,766 parameters; ten a row, and each measurement is in two rows.
ROWS_A_STATEMENT: Final = 1_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS: Final = (
    "metric", "minute", "resolution", "site", "label", "bucket", "n", "total", "min", "max",
)  # fmt: skip
KEY: Final = COLUMNS[:6]
# What is wrong with a row itself, as the database or its driver says it.
REFUSALS: Final = (DataError, IntegrityError, OverflowError, ValueError)


def store(rows: list[Row]) -> None:
    """Add the rows to those of their minute, and to those of all time.

    Raises NotStored where the rows surely are not in the database but may be later, and Refused
    where some cannot be; any other error means that nobody can know, and the rows must not be
    written again.
    """
    with fresh_connections():
        try:
            refused = _store(rows, _add_all)
        except REFUSALS:
            refused = _store(rows, _add_what_fits)
    if refused:
        raise Refused(refused)


def _store(rows: list[Row], write: Callable[[list[Row], datetime | None], int]) -> int:
    """Write in one transaction; return how many rows were refused."""
    committing = False
    try:
        with transaction.atomic():
            refused = write(rows, shown_since(at=clock.now()))
            committing = True
    except (OperationalError, InterfaceError) as error:
        if committing:
            raise
        raise NotStored(type(error).__name__) from error
    return refused


def _add_all(rows: list[Row], reset: datetime | None) -> int:
    add(_values(rows, reset))
    return 0


def _add_what_fits(rows: list[Row], reset: datetime | None) -> int:
    """Add what can be added, by halves: one bad row is not to keep all others out."""
    try:
        with transaction.atomic():
            return _add_all(rows, reset)
    except REFUSALS as error:
        if len(rows) == 1:
            log.warning("measurement_refused", metric=rows[0].metric, error=type(error).__name__)
            return 1
    middle = len(rows) // 2
    return _add_what_fits(rows[:middle], reset) + _add_what_fits(rows[middle:], reset)


def add(values: list[tuple[Any, ...]]) -> None:
    """Add rows (COLUMNS in order) to what is there, inside the caller's transaction.

    Rows are taken in the order of their keys, so that two writers never wait for each other in a
    circle.
    """
    ordered = sorted(values, key=lambda value: value[:6])
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        for start in range(0, len(ordered), ROWS_A_STATEMENT):
            part = ordered[start : start + ROWS_A_STATEMENT]
            marks = ", ".join([f"({', '.join(['%s'] * len(COLUMNS))})"] * len(part))
            cursor.execute(
                f"INSERT INTO {table()} ({columns()}) VALUES {marks} {on_conflict()}",  # noqa: S608 - names of columns only
                [item for value in part for item in value],
            )


def table() -> str:
    """Return the table's name."""
    return MetricBucket._meta.db_table


def columns() -> str:
    """Return the columns of an insert, quoted."""
    return ", ".join(f'"{name}"' for name in COLUMNS)


def on_conflict() -> str:
    """Return the clause that adds to a row that is there already."""
    sqlite = connections[DEFAULT_DB_ALIAS].vendor == "sqlite"
    least, greatest = ("MIN", "MAX") if sqlite else ("LEAST", "GREATEST")
    own = table()
    return (
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
        f"n = {own}.n + excluded.n, total = {own}.total + excluded.total, "
        f"min = {least}({own}.min, excluded.min), max = {greatest}({own}.max, excluded.max)"
    )


def _values(rows: list[Row], reset: datetime | None) -> list[tuple[Any, ...]]:
    values: list[tuple[Any, ...]] = []
    ever: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        at = datetime.fromtimestamp(row.minute, tz=UTC)
        if reset is not None and at < reset < at + timedelta(minutes=1):
            # The rest of this minute is a period of its own: what is shown begins with it.
            at = reset
        found = (row.n, row.total, row.lowest, row.highest)
        values.append((row.metric, at, Resolution.MINUTE, row.site, row.label, row.bucket, *found))
        there = ever.setdefault((row.metric, row.site, row.label, row.bucket), [0, 0.0, *found[2:]])
        there[0] += row.n
        there[1] += row.total
        there[2] = min(there[2], row.lowest)
        there[3] = max(there[3], row.highest)
    for (metric, site, label, bucket), sums in ever.items():
        values.append((metric, EPOCH, Resolution.EVER, site, label, bucket, *sums))
    return values
