"""Adds up cells and facts into the same sums."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from apps.history.contracts import Figures, HistoryStatus
from apps.history.models import TokenAcquisitionHistory

# Aliases end in an underscore: Django refuses annotations named like a field.
_OF_CELLS: dict[str, Any] = {
    "n_": Sum("n"),
    "attempts_": Sum("attempts"),
    "retries_": Sum("retries"),
    "total_sum_": Sum("total_sum"),
    "total_min_": Min("total_min"),
    "total_max_": Max("total_max"),
    "login_n_": Sum("login_n"),
    "login_sum_": Sum("login_sum"),
    "login_min_": Min("login_min"),
    "login_max_": Max("login_max"),
}
_OF_FACTS: dict[str, Any] = {
    "n_": Count("*"),
    "attempts_": Sum("attempts"),
    "retries_": Sum("retries"),
    "total_sum_": Sum("total_ms"),
    "total_min_": Min("total_ms"),
    "total_max_": Max("total_ms"),
    "login_n_": Count("login_ms"),
    "login_sum_": Sum("login_ms"),
    "login_min_": Min("login_ms"),
    "login_max_": Max("login_ms"),
}
_SUCCESS = HistoryStatus.SUCCESS.value
Key = tuple[Any, ...]


@dataclass(slots=True)
class Tally:
    """Sums in whole milliseconds, so that adding in any order gives the same."""

    n: int = 0
    success: int = 0
    attempts: int = 0
    retries: int = 0
    total_sum: int = 0
    total_min: int | None = None
    total_max: int | None = None
    login_n: int = 0
    login_sum: int = 0
    login_min: int | None = None
    login_max: int | None = None

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one row: the successes, then the sums in the order of the aggregates above."""
        success, n, attempts, retries, total, low, high, logins, login, login_low, login_high = row
        self.n += n
        self.success += success
        self.attempts += attempts
        self.retries += retries
        self.total_sum += total
        self.total_min = low if self.total_min is None else min(self.total_min, low)
        self.total_max = high if self.total_max is None else max(self.total_max, high)
        if logins:
            self.login_n += logins
            self.login_sum += login
            self.login_min = login_low if self.login_min is None else min(self.login_min, login_low)
            self.login_max = (
                login_high if self.login_max is None else max(self.login_max, login_high)
            )

    def row(self) -> tuple[Any, ...]:
        """Return what `add` takes."""
        return (
            self.success,
            self.n,
            self.attempts,
            self.retries,
            self.total_sum,
            self.total_min,
            self.total_max,
            self.login_n,
            self.login_sum,
            self.login_min,
            self.login_max,
        )

    def figures(self) -> Figures:
        """Return the sums as seconds."""
        return Figures(
            total=int(self.n),
            success=int(self.success),
            attempts=int(self.attempts),
            retries=int(self.retries),
            total_s_sum=int(self.total_sum) / 1000,
            total_s_min=_seconds(self.total_min),
            total_s_max=_seconds(self.total_max),
            logins=int(self.login_n),
            login_s_sum=int(self.login_sum) / 1000,
            login_s_min=_seconds(self.login_min),
            login_s_max=_seconds(self.login_max),
        )


def by_status(rows: QuerySet[Any], keys: tuple[str, ...]) -> Iterable[tuple[Key, tuple[Any, ...]]]:
    """Yield ((*keys, status), row for `Tally.add`), one for each combination."""
    aggregates = _OF_FACTS if rows.model is TokenAcquisitionHistory else _OF_CELLS
    names = (*keys, "status")
    grouped: Any = rows.order_by().values(*names).annotate(**aggregates)
    width = len(names)
    for row in _fetched(grouped.values_list(*names, *aggregates)):
        successes = row[width] if row[width - 1] == _SUCCESS else 0
        yield row[:width], (successes, *row[width:])


def by_value(rows: QuerySet[Any], key: Any) -> Iterable[tuple[int, tuple[Any, ...]]]:
    """Yield (key, row for `Tally.add`), one for each value of the expression `key`."""
    if rows.model is TokenAcquisitionHistory:
        aggregates = {"success_": Count("pk", filter=Q(status=_SUCCESS))} | _OF_FACTS
    else:
        aggregates = {"success_": Sum("success")} | _OF_CELLS
    grouped: Any = rows.order_by().annotate(at_=key).values("at_").annotate(**aggregates)
    for row in _fetched(grouped.values_list("at_", *aggregates)):
        yield row[0], row[1:]


def _fetched(rows: QuerySet[Any]) -> list[tuple[Any, ...]]:
    """Run the query without the ORM's conversion of each cell, which is half of the time.

    What comes back are texts and numbers; `figures` makes integers of PostgreSQL's decimals.
    """
    statement, parameters = rows.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _seconds(value_ms: int | None) -> float | None:
    return None if value_ms is None else value_ms / 1000
