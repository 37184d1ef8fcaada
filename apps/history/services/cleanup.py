"""Deleting old facts without standing in a writer's way.

Small transactions, and small pieces of archive, with pauses longer than themselves. On PostgreSQL
a month that is old as a whole is dropped with its partition.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from django.db import OperationalError, transaction

from apps.common.clock import now
from apps.common.errors import ValidationFailed
from apps.history import partitions
from apps.history.contracts import MOST_DAYS, CleanupProgress, CleanupReport
from apps.history.guard import withdraw
from apps.history.models import (
    DayCell,
    HourCell,
    Level,
    MonthCell,
    Rollup,
    Spread,
    StatusCell,
    TokenAcquisitionHistory,
)
from apps.history.partitions import Contents
from apps.history.periods import day_of, days_of_month, month_of, month_start
from apps.history.querysets import HistoryQuerySet
from apps.history.services.archive import Archive
from apps.history.services.pacing import Pace, insist
from apps.history.services.rollup import roll_up

log = structlog.get_logger(__name__)

OnProgress = Callable[[CleanupProgress], None]


@dataclass(slots=True)
class _Run:
    """What one clean-up has done so far."""

    cutoff: datetime
    total: int
    archive: Archive | None
    on_progress: OnProgress | None
    # Reading and archiving a row costs other than deleting it.
    reading: Pace = field(default_factory=Pace)
    pace: Pace = field(default_factory=Pace)
    deleted: int = 0
    archived: int = 0
    dropped: list[str] = field(default_factory=list)

    def take(self, rows: HistoryQuerySet) -> list[TokenAcquisitionHistory]:
        """Return the next rows, which are in the archive by then, if there is one."""
        with self.reading.step():
            chunk = list(rows[: self.reading.size])
            if self.archive is not None and chunk:
                self.archive.append(chunk)
                self.archived += len(chunk)
                self.tell()
        return chunk

    def advance(self, deleted: int) -> None:
        self.deleted += deleted
        self.tell()

    def tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(
                CleanupProgress(deleted=self.deleted, total=self.total, archived=self.archived)
            )


def cleanup(
    older_than_days: int,
    *,
    dry_run: bool = False,
    archive_to: Path | None = None,
    on_progress: OnProgress | None = None,
    at: datetime | None = None,
) -> CleanupReport:
    """Delete the records that finished more than so many days ago; archive them first if asked.

    A row is deleted only after its archive is on the disk. May be interrupted and run again at
    any time, and by several at once. Raises ValidationFailed for less than one day or more than
    MOST_DAYS, OSError if the archive cannot be written.
    """
    if not 1 <= older_than_days <= MOST_DAYS:
        raise ValidationFailed(f"Records are kept for 1 to {MOST_DAYS} days.")
    began = time.monotonic()
    cutoff = (at or now()) - timedelta(days=older_than_days)
    matched = TokenAcquisitionHistory.objects.finished_before(cutoff).count()
    if dry_run or not matched:
        return CleanupReport(cutoff=cutoff, dry_run=dry_run, matched=matched)
    archive = Archive(archive_to, at=at or now()) if archive_to is not None else None
    run = _Run(cutoff, matched, archive, on_progress)
    try:
        _drop_months(run)
        _delete_rows(run)
    finally:
        if archive is not None:
            archive.close()
    _delete_cells(run)
    roll_up(at=at)
    return CleanupReport(
        cutoff=cutoff,
        dry_run=False,
        matched=matched,
        deleted=run.deleted,
        archived=run.archived,
        archive=archive.path if archive is not None else None,
        partitions_dropped=tuple(run.dropped),
        batches=run.pace.steps,
        longest_batch_s=run.pace.longest_s,
        took_s=time.monotonic() - began,
    )


def _drop_months(run: _Run) -> None:
    """Drop the partitions of months that are old as a whole."""
    for month, name in partitions.existing().items():
        if month_start(month + 1) > run.cutoff:
            continue
        dropped = _drop(month, only_if=_archive_month(run, month))
        # What could not be dropped goes row by row.
        if dropped is not None:
            run.dropped.append(name)
            run.advance(dropped)


def _drop(month: int, *, only_if: Contents | None) -> int | None:
    """Drop a month; return its rows, or None if it has others by now or is in use all the time."""
    try:
        return insist(lambda: partitions.drop(month, only_if=only_if))
    except OperationalError:
        log.info("history_partition_in_use", month=month)
        return None


def _archive_month(run: _Run, month: int) -> Contents | None:
    """Archive a month; return what was written, None without an archive."""
    if run.archive is None:
        return None
    rows = TokenAcquisitionHistory.objects.finished_between(
        month_start(month), month_start(month + 1)
    ).order_by("finished_at", "id")
    written, ids, after = 0, 0, None
    while chunk := run.take(rows if after is None else rows.after(after)):
        written += len(chunk)
        ids += sum(row.pk for row in chunk)
        after = chunk[-1]
    return Contents(written, ids)


def _delete_rows(run: _Run) -> None:
    """Delete what is left, oldest first, exactly the rows that were read and archived."""
    old = TokenAcquisitionHistory.objects.finished_before(run.cutoff).order_by("finished_at", "id")
    while chunk := run.take(old):
        position = 0
        while position < len(chunk):
            batch = chunk[position : position + run.pace.size]
            with run.pace.step():
                deleted = _delete(batch)
            position += len(batch)
            run.advance(deleted)


@transaction.atomic
def _delete(batch: list[TokenAcquisitionHistory]) -> int:
    """Delete these rows; return how many were still there."""
    withdraw({day_of(row.finished_at) for row in batch})
    # The times let PostgreSQL look into one or two partitions only.
    mine = TokenAcquisitionHistory.objects.filter(
        pk__in=[row.pk for row in batch],
        finished_at__gte=batch[0].finished_at,
        finished_at__lte=batch[-1].finished_at,
    )
    return mine._raw_delete(mine.db)


def _delete_cells(run: _Run) -> None:
    """Delete the cells of days and months whose facts are gone, a day at a time.

    Withdrawn in the same transaction: a restore may have had the day rolled up again meanwhile.
    """
    first_day, first_month = day_of(run.cutoff), month_of(run.cutoff)
    for day in _rolled(Level.DAY, first_day):
        with run.pace.step(), transaction.atomic():
            withdraw([day])
            HourCell.objects.filter(period__gte=day * 24, period__lt=day * 24 + 24).delete()
            DayCell.objects.filter(period=day).delete()
            StatusCell.objects.filter(level=Level.DAY, period=day).delete()
            Spread.objects.filter(level=Level.DAY, period=day).delete()
    for month in _rolled(Level.MONTH, first_month):
        with run.pace.step(), transaction.atomic():
            withdraw(days_of_month(month))
            MonthCell.objects.filter(period=month).delete()
            StatusCell.objects.filter(level=Level.MONTH, period=month).delete()
            Spread.objects.filter(level=Level.MONTH, period=month).delete()


def _rolled(level: Level, before: int) -> list[int]:
    """Return the periods before this one that have cells, or nothing but a roll-up."""
    old = {"level": level, "period__lt": before}
    with_cells = Spread.objects.filter(site="", **old).values_list("period", flat=True)
    vouched = Rollup.objects.filter(**old).values_list("period", flat=True)
    return sorted({*with_cells, *vouched})
