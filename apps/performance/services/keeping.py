"""Ageing rows: minutes become hours, hours become days, the oldest go, in small transactions.

A measurement is in one row at any time: a step adds old rows to coarser ones and deletes them in
one transaction. Late measurements are added to a minute again and age in their turn.

A reset in the middle of an hour or a day begins a period of its own, or what is shown since then
would end up in a row that is not shown.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import connection, transaction

from apps.common import clock
from apps.history.services.pacing import Pace
from apps.performance.models import MetricBucket, MetricReset, Resolution, SystemSample
from apps.performance.services.storing import add, columns, on_conflict, table

KEEP_MINUTES: Final = timedelta(hours=26)
KEEP_HOURS: Final = timedelta(days=35)
KEEP_DAYS: Final = timedelta(days=730)
KEEP_SAMPLES: Final = timedelta(days=1)
AGEING: Final = (
    (Resolution.MINUTE, Resolution.HOUR, KEEP_MINUTES),
    (Resolution.HOUR, Resolution.DAY, KEEP_HOURS),
)
BUDGET_S: Final = 2.0

_MOVE: Final = """
WITH moved AS (
    DELETE FROM {table} WHERE id IN (
        SELECT id FROM {table} WHERE resolution = %s AND minute < %s
        ORDER BY minute, id LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING *
)
INSERT INTO {table} ({columns})
SELECT metric, greatest(
        date_trunc('{unit}', minute, 'UTC'),
        (SELECT max(since) FROM {resets} WHERE since <= moved.minute)
    ), {coarse}, site, label, bucket,
    sum(n), sum(total), min(min), max(max)
FROM moved GROUP BY 1, 2, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
{on_conflict}
"""


def keep(*, budget_s: float = BUDGET_S) -> int:
    """Age and delete what is due, for about `budget_s` seconds; return how many rows were."""
    pace, at, begun = Pace(), clock.now(), clock.monotonic()
    done = 0
    for step in _steps(at):
        while clock.monotonic() - begun < budget_s:
            with pace.step():
                changed = step(pace.size)
            done += changed
            if changed == 0:
                break
    return done


def _steps(at: datetime) -> list[Callable[[int], int]]:
    return [
        *(Ageing(fine, coarse, at - age) for fine, coarse, age in AGEING),
        Ageing(Resolution.DAY, None, at - KEEP_DAYS),
        partial(_delete_samples, at - KEEP_SAMPLES),
    ]


@dataclass(frozen=True, slots=True)
class Ageing:
    """Moves rows from before a time to a coarser resolution; with None, deletes them."""

    fine: Resolution
    coarse: Resolution | None
    before: datetime

    def __call__(self, limit: int) -> int:
        """Do some, in one transaction; 0 if there is nothing left to do."""
        with transaction.atomic():
            if self.coarse is None:
                return self._delete(limit)
            if connection.vendor == "postgresql":
                return self._move_in_one_statement(limit)
            return self._move(limit)

    def _delete(self, limit: int) -> int:
        old = MetricBucket.objects.filter(resolution=self.fine, minute__lt=self.before)
        ids = [pk for (pk,) in old.order_by("minute", "pk").values_list("pk")[:limit]]
        return MetricBucket.objects.filter(pk__in=ids)._raw_delete("default") or 0

    def _move_in_one_statement(self, limit: int) -> int:
        """The rows that are deleted are the rows that are added, whatever others add meanwhile."""
        sql = _MOVE.format(
            table=table(),
            resets=MetricReset._meta.db_table,
            columns=columns(),
            unit="hour" if self.coarse == Resolution.HOUR else "day",
            coarse=int(self.coarse or 0),
            on_conflict=on_conflict(),
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.fine, self.before, limit])
            return int(cursor.rowcount)

    def _move(self, limit: int) -> int:
        """On SQLite nobody else writes during this transaction."""
        old = MetricBucket.objects.filter(resolution=self.fine, minute__lt=self.before)
        rows = list(old.order_by("minute", "pk")[:limit])
        resets = list(MetricReset.objects.order_by("since").values_list("since", flat=True))
        sums: dict[tuple[str, datetime, int, str, str, int], list[float]] = {}
        for row in rows:
            key = (row.metric, self._start(row.minute, resets), int(self.coarse or 0))
            there = sums.setdefault(
                (*key, row.site, row.label, row.bucket), [0, 0.0, row.min, row.max]
            )
            there[0] += row.n
            there[1] += row.total
            there[2] = min(there[2], row.min)
            there[3] = max(there[3], row.max)
        add([(*key, *values) for key, values in sums.items()])
        MetricBucket.objects.filter(pk__in=[row.pk for row in rows])._raw_delete("default") or 0
        return len(rows)

    def _start(self, at: datetime, resets: Sequence[datetime]) -> datetime:
        hour = at.replace(minute=0, second=0, microsecond=0)
        whole = hour if self.coarse == Resolution.HOUR else hour.replace(hour=0)
        return max([whole, *resets[: bisect_right(resets, at)][-1:]])


def _delete_samples(before: datetime, limit: int) -> int:
    old = SystemSample.objects.filter(at__lt=before).order_by("at")
    ids = [pk for (pk,) in old.values_list("pk")[:limit]]
    return SystemSample.objects.filter(pk__in=ids)._raw_delete("default") or 0
