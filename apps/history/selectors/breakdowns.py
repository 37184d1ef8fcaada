"""The figures of a window, read from the largest periods that are rolled up."""

from collections import Counter
from typing import Any

from django.db.models import Count, F, Q, QuerySet

from apps.history.contracts import Grouping, Window
from apps.history.models import (
    DayCell,
    HourCell,
    Level,
    MonthCell,
    Spread,
    StatusCell,
    TokenAcquisitionHistory,
)
from apps.history.periods import day_start
from apps.history.selectors import local_time, sums
from apps.history.selectors.cover import Cover, Vouched, cover
from apps.history.selectors.sums import Key, Row

ALL_SITES = ""


def by_name(window: Window, known: Vouched, keys: tuple[str, ...]) -> dict[Key, Row]:
    """Return sums by `keys`, which are of site and account."""
    spans = cover(window.start, window.end, known)
    sources: list[QuerySet[Any]] = []
    if spans.months:
        sources.append(_narrowed(MonthCell.objects.filter(period__in=spans.months), window))
    if spans.days:
        sources.append(_narrowed(DayCell.objects.filter(period__in=spans.days), window))
    if spans.raw:
        sources.append(_facts(window, spans))
    return sums.by_name(sources, keys)


def by_status(window: Window, known: Vouched) -> dict[str, Row]:
    """Return sums by status; together they are all records of the window."""
    spans = _cells_of_sites(window, known)
    sources: list[QuerySet[Any]] = []
    if spans.months or spans.days:
        cells = StatusCell.objects.filter(spans.of_level(), site=window.site or ALL_SITES)
        sources.append(cells)
    if spans.raw:
        sources.append(_facts(window, spans))
    return {status: row for (status,), row in sums.by_name(sources, ["status"]).items()}


def by_time(window: Window, known: Vouched, grouping: Grouping) -> dict[str, Row]:
    """Return sums by local day or local hour, in order; empty ones are left out."""
    found = local_time.offsets(window.zone, window.start, window.end)
    by_day = grouping is Grouping.DAY
    if window.account or not local_time.on_whole_hours(found):
        # No cells are this fine: an account makes a few thousand logins a year.
        spans = Cover(months=(), days=(), raw=((window.start, window.end),))
    else:
        spans = cover(window.start, window.end, known, months=False)
    sources: list[tuple[QuerySet[Any], Any]] = []
    if spans.raw:
        at = local_time.day_of_facts(found) if by_day else local_time.hour_of_facts(found)
        sources.append((_facts(window, spans), at))
    if spans.days:
        sources.append(_timed_cells(window, spans.days, found, by_day=by_day))
    in_order = sorted(sums.by_time(sources).items())
    if by_day:
        return {day_start(day).date().isoformat(): row for day, row in in_order}
    return {local_time.hour_name(at, window.zone): row for at, row in in_order}


def spreads(window: Window, known: Vouched) -> tuple[Counter[int], Counter[int]]:
    """Return how many total and login times fell into each bucket of the scale."""
    total: Counter[int] = Counter()
    login: Counter[int] = Counter()
    spans = _cells_of_sites(window, known)
    if spans.months or spans.days:
        stored = Spread.objects.filter(spans.of_level(), site=window.site or ALL_SITES)
        for total_counts, login_counts in stored.values_list("total", "login"):
            _add_counts(total, total_counts)
            _add_counts(login, login_counts)
    if spans.raw:
        rows = _facts(window, spans).order_by()
        counted: Any = rows.values("total_bucket", "login_bucket").annotate(n_=Count("*"))
        counted = counted.values_list("total_bucket", "login_bucket", "n_")
        for bucket, login_bucket, n in sums.fetched(*counted.query.sql_with_params()):
            total[bucket] += n
            if login_bucket is not None:
                login[login_bucket] += n
    return total, login


def _cells_of_sites(window: Window, known: Vouched) -> Cover:
    """Cover the window for cells that know no accounts: an account's facts are few."""
    if window.account:
        return Cover(months=(), days=(), raw=((window.start, window.end),))
    return cover(window.start, window.end, known)


def _add_counts(into: Counter[int], counts: dict[str, int]) -> None:
    for bucket, count in counts.items():
        into[int(bucket)] += count


def _facts(window: Window, spans: Cover) -> QuerySet[TokenAcquisitionHistory]:
    return TokenAcquisitionHistory.objects.of(site=window.site, account=window.account).filter(
        spans.raw_filter()
    )


def _narrowed(cells: QuerySet[Any], window: Window) -> QuerySet[Any]:
    if window.site:
        cells = cells.filter(site=window.site)
    return cells.filter(account=window.account) if window.account else cells


def _timed_cells(
    window: Window, days: tuple[int, ...], found: list[local_time.Offset], *, by_day: bool
) -> tuple[QuerySet[Any], Any]:
    """Return the cells of these days, and the expression for the local time they belong to."""
    site = window.site or ALL_SITES
    if by_day and not any(offset.seconds for offset in found):
        # Days of UTC are days of cells: six rows for each instead of 24.
        of_day = StatusCell.objects.filter(_within(days, 1), level=Level.DAY, site=site)
        return of_day, F("period")
    at = local_time.day_of_cells(found) if by_day else F("period") * local_time.HOUR_S
    return HourCell.objects.filter(_within(days, 24), site=site), at


def _within(days: tuple[int, ...], each: int) -> Q:
    """Return the condition on cells, `each` of them a day; neighbouring days share one range."""
    condition, first = Q(pk__in=[]), days[0]
    for day, following in zip(days, (*days[1:], None), strict=True):
        if following != day + 1:
            condition |= Q(period__gte=first * each, period__lt=(day + 1) * each)
            first = following if following is not None else first
    return condition
