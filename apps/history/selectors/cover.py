"""Splits a window into periods that cells answer for, and stretches that only facts can answer."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import Q

from apps.history.contracts import Window
from apps.history.models import Level, Rollup, TokenAcquisitionHistory
from apps.history.periods import (
    EPOCH,
    day_of,
    day_start,
    days_of_month,
    month_of,
    month_start,
)

# The days of less are gone through in less time than the ends are asked for.
LONG = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Cover:
    """Months and days by number, and raw stretches [start, end); together exactly the window."""

    months: tuple[int, ...]
    days: tuple[int, ...]
    raw: tuple[tuple[datetime, datetime], ...]

    def of_level(self) -> Q:
        """Return the condition on cells that have a level."""
        return Q(level=Level.MONTH, period__in=self.months) | Q(
            level=Level.DAY, period__in=self.days
        )

    def raw_filter(self) -> Q:
        """Return the condition on facts; never empty (Q() would match every fact)."""
        condition = Q(pk__in=[])
        for start, end in self.raw:
            condition |= Q(finished_at__gte=start, finished_at__lt=end)
        return condition


@dataclass(frozen=True, slots=True)
class Vouched:
    """The periods of a window that roll-ups vouch for."""

    months: frozenset[int]
    days: frozenset[int]


def vouched(start: datetime, end: datetime) -> Vouched:
    """Read what is rolled up between two times."""
    found = Rollup.objects.filter(
        Q(level=Level.DAY, period__gte=day_of(start), period__lte=day_of(end))
        | Q(level=Level.MONTH, period__gte=month_of(start), period__lte=month_of(end))
    ).values_list("level", "period")
    rows = list(found)
    return Vouched(
        months=frozenset(period for level, period in rows if level == Level.MONTH),
        days=frozenset(period for level, period in rows if level == Level.DAY),
    )


def filled(window: Window, known: Vouched) -> Window:
    """Return the part of a window from its first to its last fact or period vouched for.

    A window may last millennia, and its days are gone through one by one; what is not LONG is
    returned as it is.
    """
    if window.end - window.start <= LONG:
        return window
    stretches = []
    facts = TokenAcquisitionHistory.objects.finished_between(window.start, window.end)
    oldest, newest = facts.ends()
    if oldest is not None and newest is not None:
        stretches.append((oldest, newest + timedelta(microseconds=1)))
    if known.days:
        stretches.append((day_start(min(known.days)), day_start(max(known.days) + 1)))
    if known.months:
        stretches.append((month_start(min(known.months)), month_start(max(known.months) + 1)))
    if not stretches:
        return replace(window, start=window.end)
    starts, ends = zip(*stretches, strict=True)
    return replace(window, start=max(window.start, min(starts)), end=min(window.end, max(ends)))


def cover(start: datetime, end: datetime, known: Vouched, *, months: bool = True) -> Cover:
    """Cover [start, end) with the largest periods that are vouched for.

    `months=False` uses days only: hour cells exist for days, whatever became of the month.
    """
    first, last = -((EPOCH - start) // (day_start(1) - EPOCH)), day_of(end)
    if first > last:
        return Cover(months=(), days=(), raw=((start, end),))
    whole = [
        month
        for month in sorted(known.months if months else ())
        if days_of_month(month).start >= first and days_of_month(month).stop <= last
    ]
    in_months = {day for month in whole for day in days_of_month(month)}
    days: list[int] = []
    raw: list[tuple[datetime, datetime]] = [(start, day_start(first))]
    for day in range(first, last):
        if day in in_months:
            continue
        if day in known.days:
            days.append(day)
        else:
            raw.append((day_start(day), day_start(day + 1)))
    raw.append((day_start(last), end))
    return Cover(months=tuple(whole), days=tuple(days), raw=_joined(raw))


def _joined(stretches: list[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    joined: list[tuple[datetime, datetime]] = []
    for start, end in stretches:
        if start >= end:
            continue
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
