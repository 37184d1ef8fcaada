"""Adds closed days up into cells, and vouches for them.

A day is added up in one transaction of its own that has the day to itself (see `guard`), so what
it vouches for is whole. Days that change later lose their roll-up and are added up again.
"""

import time
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Min

from apps.common.clock import now
from apps.history import partitions
from apps.history.guard import try_alone
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
from apps.history.periods import day_of, day_start, days_of_month, month_of, month_of_day
from apps.history.services import rollup_sql

# Most records of a day are in by then; later ones only cost adding up that day again.
GRACE = timedelta(minutes=5)
# Older days are answered from the facts: one row with a broken clock must not cost a million.
MAX_AGE = timedelta(days=1_200)
PAUSE_SHARE = 1.0


def roll_up(*, at: datetime | None = None, budget_s: float = 5.0) -> int:
    """Add up what is closed and not yet vouched for; return the number of days and months.

    Also makes the partitions of the coming months. Newest first, for about `budget_s` seconds;
    call it again (every minute is cheap) for the rest. Safe to run anywhere, at any time.
    """
    at = at or now()
    deadline = time.monotonic() + budget_s
    done = 0
    partitions.ensure_ahead(at)
    # Months are looked for when the days are done.
    for roll, periods in ((_roll_day, _open_days), (_roll_month, _open_months)):
        for period in periods(at):
            began = time.monotonic()
            if began > deadline:
                return done
            done += roll(period, at)
            # As long as the transaction: on SQLite writers are waiting for it.
            time.sleep((time.monotonic() - began) * PAUSE_SHARE)
    return done


def _closed_days(at: datetime) -> range:
    """Return the days from the oldest fact to the last one that is over."""
    oldest = TokenAcquisitionHistory.objects.aggregate(oldest=Min("finished_at"))["oldest"]
    end = day_of(at - GRACE)
    # From the first of a month: a month must not be vouched for without its older half.
    earliest = days_of_month(month_of(at - MAX_AGE)).start
    return range(end if oldest is None else max(day_of(oldest), earliest), end)


def _open_days(at: datetime) -> list[int]:
    closed = _closed_days(at)
    vouched = Rollup.objects.filter(level=Level.DAY, period__gte=closed.start)
    return sorted(set(closed) - set(vouched.values_list("period", flat=True)), reverse=True)


def _open_months(at: datetime) -> list[int]:
    """Return the months that are over and whose days are all vouched for, as far as they exist."""
    closed = _closed_days(at)
    days = set(Rollup.objects.filter(level=Level.DAY).values_list("period", flat=True))
    months = set(Rollup.objects.filter(level=Level.MONTH).values_list("period", flat=True))
    return [
        month
        for month in sorted({month_of_day(day) for day in closed} - months, reverse=True)
        if _required(month, closed) <= days and days_of_month(month).stop <= closed.stop
    ]


def _required(month: int, closed: range) -> set[int]:
    return {day for day in days_of_month(month) if day >= closed.start}


@transaction.atomic
def _roll_day(day: int, at: datetime) -> bool:
    if not try_alone(day) or Rollup.objects.filter(level=Level.DAY, period=day).exists():
        return False
    hours = range(day * 24, day * 24 + 24)
    DayCell.objects.filter(period=day).delete()
    HourCell.objects.filter(period__gte=hours.start, period__lt=hours.stop).delete()
    StatusCell.objects.filter(level=Level.DAY, period=day).delete()
    Spread.objects.filter(level=Level.DAY, period=day).delete()
    rollup_sql.fill_day(day)
    rollup_sql.fill_hours(hours)
    _store_spreads(Level.DAY, day, _counted(day))
    Rollup.objects.create(level=Level.DAY, period=day, rolled_at=at)
    return True


@transaction.atomic
def _roll_month(month: int, at: datetime) -> bool:
    """Vouch for a month; its days must stay vouched for until we commit, so all are locked."""
    days = days_of_month(month)
    if not all(try_alone(day) for day in days):
        return False
    oldest = _closed_days(at)
    vouched = Rollup.objects.filter(level=Level.DAY, period__gte=days.start, period__lt=days.stop)
    if not _required(month, oldest) <= set(vouched.values_list("period", flat=True)):
        return False
    if Rollup.objects.filter(level=Level.MONTH, period=month).exists():
        return False
    MonthCell.objects.filter(period=month).delete()
    StatusCell.objects.filter(level=Level.MONTH, period=month).delete()
    Spread.objects.filter(level=Level.MONTH, period=month).delete()
    rollup_sql.fill_month(month, range(max(days.start, oldest.start), days.stop))
    _store_spreads(Level.MONTH, month, _merged(max(days.start, oldest.start), days.stop))
    Rollup.objects.create(level=Level.MONTH, period=month, rolled_at=at)
    return True


Spreads = dict[str, tuple[dict[int, int], dict[int, int]]]


def _counted(day: int) -> Spreads:
    """Count the facts of a day by bucket, for each site and for all of them."""
    spreads: Spreads = defaultdict(lambda: (defaultdict(int), defaultdict(int)))
    facts = TokenAcquisitionHistory.objects.finished_between(day_start(day), day_start(day + 1))
    rows = facts.order_by().values("site", "total_bucket", "login_bucket").annotate(n_=Count("*"))
    for site, total, login, n in rows.values_list("site", "total_bucket", "login_bucket", "n_"):
        for name in (site, ""):
            spreads[name][0][total] += n
            if login is not None:
                spreads[name][1][login] += n
    return spreads


def _merged(first: int, end: int) -> Spreads:
    """Add up the spreads of days."""
    spreads: Spreads = defaultdict(lambda: (defaultdict(int), defaultdict(int)))
    rows: Any = Spread.objects.filter(level=Level.DAY, period__gte=first, period__lt=end)
    for site, *both in rows.values_list("site", "total", "login"):
        for into, counts in zip(spreads[site], both, strict=True):
            for bucket, n in counts.items():
                into[int(bucket)] += n
    return spreads


def _store_spreads(level: Level, period: int, spreads: Spreads) -> None:
    Spread.objects.bulk_create(
        Spread(level=level, period=period, site=site, total=total, login=login)
        for site, (total, login) in spreads.items()
    )
