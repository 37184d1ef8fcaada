"""Adds up cells and facts into the same sums, inside the database and then by breakdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from apps.history.contracts import Figures, HistoryStatus
from apps.history.models import TokenAcquisitionHistory

Key = tuple[Any, ...]
# SUMS in their order: whole numbers, so that adding in any order gives the same.
Row = tuple[Any, ...]
SUMS = (
    "success", "n", "attempts", "retries", "total_sum", "total_min", "total_max",
    "login_n", "login_sum", "login_min", "login_max",
)  # fmt: skip
# Aliases end in an underscore: Django refuses annotations named like a field.
_OF_FACTS: dict[str, Any] = {
    "success_": Count("pk", filter=Q(status=HistoryStatus.SUCCESS.value)),
    "n_": Count("*"),
    "attempts_": Sum("attempts"),
    "retries_": Sum("retries"),
    "total_sum_": Sum("total_ms"),
    "total_min_": Min("total_ms"),
    "total_max_": Max("total_ms"),
    "login_n_": Count("login_ms"),
    "login_sum_": Sum("login_ms", default=0),
    "login_min_": Min("login_ms"),
    "login_max_": Max("login_ms"),
}


def by_name(sources: Iterable[QuerySet[Any]], names: Sequence[str]) -> dict[Key, Row]:
    """Return the sums of all sources for each combination of these columns."""
    parts = [_part(rows.order_by(), names) for rows in sources]
    width = len(names)
    return {row[:width]: row[width:] for row in _totals(parts, names)}


def by_time(sources: Iterable[tuple[QuerySet[Any], Any]]) -> dict[int, Row]:
    """Return the sums of all sources for each value of the expression that comes with each."""
    parts = [_part(rows.order_by().annotate(at_=at), ["at_"]) for rows, at in sources]
    return {row[0]: row[1:] for row in _totals(parts, ["at_"])}


def _part(rows: Any, names: Sequence[str]) -> QuerySet[Any]:
    """Return what to add up: cells as they are, facts already by name."""
    if rows.model is TokenAcquisitionHistory:
        rows = rows.values(*names).annotate(**_OF_FACTS)
        found: QuerySet[Any] = rows.values_list(*names, *_OF_FACTS)
    else:
        found = rows.values_list(*names, *SUMS)
    return found


def added(rows: Iterable[Row]) -> Row:
    """Return the sums of one row or more."""
    return tuple(
        combine(column) for combine, column in zip(_COMBINE, zip(*rows, strict=True), strict=True)
    )


def folded(rows: Mapping[Key, Row], part: Callable[[Key], Any]) -> dict[Any, Row]:
    """Add up the rows whose keys have the same `part`."""
    groups: dict[Any, list[Row]] = {}
    for key, row in rows.items():
        groups.setdefault(part(key), []).append(row)
    return {key: added(group) for key, group in groups.items()}


def figures(row: Row) -> Figures:
    """Return the sums as seconds."""
    success, n, attempts, retries, total, low, high, logins, login, login_low, login_high = row
    return Figures(
        total=n,
        success=success,
        attempts=attempts,
        retries=retries,
        total_s_sum=total / 1000,
        total_s_min=_seconds(low),
        total_s_max=_seconds(high),
        logins=logins,
        login_s_sum=login / 1000,
        login_s_min=_seconds(login_low),
        login_s_max=_seconds(login_high),
    )


def fetched(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a query for texts and numbers without the ORM's conversion of each cell."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _totals(parts: Sequence[QuerySet[Any]], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Add the parts up in one statement.

    PostgreSQL's sums of bigint would be decimals, which cost more to read than to add up.
    """
    if not parts:
        return []
    compiled = [part.query.sql_with_params() for part in parts]
    keys = [f"key_{name}" for name in names]
    totals = [_TOTAL.get(name[-4:], "CAST(SUM({}) AS BIGINT)").format(name) for name in SUMS]
    statement = (
        f"WITH part ({', '.join([*keys, *SUMS])}) AS ("  # noqa: S608  # our own names
        f"{' UNION ALL '.join(text for text, _ in compiled)}) "
        f"SELECT {', '.join([*keys, *totals])} FROM part GROUP BY {', '.join(keys)}"
    )
    return fetched(statement, [value for _, values in compiled for value in values])


def _lowest(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None


def _highest(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _seconds(value_ms: int | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


_TOTAL = {"_min": "MIN({})", "_max": "MAX({})"}
# Of rows without a login there is no lowest and highest time of one.
_EXTREMES: dict[str, Callable[[Any], Any]] = {
    "total_min": min, "total_max": max, "login_min": _lowest, "login_max": _highest,
}  # fmt: skip
_COMBINE = [_EXTREMES.get(name, sum) for name in SUMS]
