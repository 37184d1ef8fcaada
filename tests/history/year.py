"""A year of records for the benchmark of the history."""

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from apps.history import partitions
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import month_of
from apps.history.scale import bucket_of

SITES, ACCOUNTS = 20, 10
STATUSES = ["success", "failed", "timeout", "network_error", "captcha_error", "credential_error"]
STATUS_WEIGHTS = [90, 2, 3, 2, 2, 1]
CHUNK = 20_000
COLUMNS = [
    field.column for field in TokenAcquisitionHistory._meta.concrete_fields if field.name != "id"
]


def fill(rows: int, *, end: datetime, days: int = 365) -> None:
    """Write rows spread over the days before `end`, oldest first, as they would have come."""
    start = end - timedelta(days=days)
    partitions.ensure(range(month_of(start), month_of(end) + 1))
    chunk: list[tuple[Any, ...]] = []
    for row in _rows(rows, start, (end - start) / rows):
        chunk.append(row)
        if len(chunk) == CHUNK:
            _write(chunk)
            chunk = []
    _write(chunk)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")
        else:
            cursor.execute("ANALYZE")


def _rows(count: int, start: datetime, step: timedelta) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(20_260_101)
    # Some sites are asked for far more often than others.
    site_weights = [1 / (rank + 1) for rank in range(SITES)]
    sites = chance.choices(range(SITES), site_weights, k=count)
    statuses = chance.choices(STATUSES, STATUS_WEIGHTS, k=count)
    for number in range(count):
        finished = start + step * number
        status, total = statuses[number], int(chance.lognormvariate(9, 0.8))
        login = None if status == "failed" else int(total * chance.uniform(0.5, 0.95))
        yield (
            uuid.UUID(int=chance.getrandbits(128), version=4).hex,
            f"site-{sites[number]:02}",
            f"account-{sites[number]:02}-{chance.randrange(ACCOUNTS)}",
            status,
            "refresh_ahead",
            "refresh",
            1,
            0,
            total,
            login,
            bucket_of(total),
            None if login is None else bucket_of(login),
            "0123456789abcdef0123456789abcdef" if status == "success" else "",
            "" if status == "success" else status,
            "" if status == "success" else "The site answered with something unexpected.",
            finished - timedelta(milliseconds=total),
            finished - timedelta(milliseconds=login or 0),
            finished,
        )


def _write(rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    table, names = partitions.TABLE, ", ".join(COLUMNS)
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            adapt = connection.ops.adapt_datetimefield_value
            marks = ", ".join(["%s"] * len(COLUMNS))
            cursor.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",
                [(*row[:-3], *map(adapt, row[-3:])) for row in rows],
            )
