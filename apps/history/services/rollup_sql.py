"""The additions themselves, inside the database."""

from typing import Any

from django.db import connection

from apps.history.models import DayCell, HourCell, MonthCell, StatusCell, TokenAcquisitionHistory
from apps.history.periods import day_start

_SUMS = (
    "success, n, attempts, retries, total_sum, total_min, total_max, "
    "login_n, login_sum, login_min, login_max"
)
_OF_FACTS = (
    "COUNT(CASE WHEN status = 'success' THEN 1 END), COUNT(*), SUM(attempts), SUM(retries), "
    "SUM(total_ms), MIN(total_ms), MAX(total_ms), "
    "COUNT(login_ms), COALESCE(SUM(login_ms), 0), MIN(login_ms), MAX(login_ms)"
)
_OF_CELLS = (
    "SUM(success), SUM(n), SUM(attempts), SUM(retries), "
    "SUM(total_sum), MIN(total_min), MAX(total_max), "
    "SUM(login_n), SUM(login_sum), MIN(login_min), MAX(login_max)"
)
_FACTS = TokenAcquisitionHistory._meta.db_table
_HOURS, _DAYS, _MONTHS, _STATUSES = (
    model._meta.db_table for model in (HourCell, DayCell, MonthCell, StatusCell)
)
_EPOCH_HOUR = {
    "postgresql": "FLOOR(EXTRACT(EPOCH FROM finished_at) / 3600)::int",
    # Cut before converting: SQLite would round .9996 up into the next second.
    "sqlite": "CAST(strftime('%%s', substr(finished_at, 1, 13) || ':00') AS INTEGER) / 3600",
}


def fill_day(day: int) -> None:
    """Add the facts of a day up by site and account, and by site and status."""
    bounds = _bounds(day, day + 1)
    _run(
        f"INSERT INTO {_DAYS} (period, site, account, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT %s, site, account, {_OF_FACTS} FROM {_FACTS} "
        "WHERE finished_at >= %s AND finished_at < %s GROUP BY site, account",
        [day, *bounds],
    )
    _run(
        f"INSERT INTO {_STATUSES} (level, period, site, status, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT 'd', %s, site, status, {_OF_FACTS} FROM {_FACTS} "
        "WHERE finished_at >= %s AND finished_at < %s GROUP BY site, status",
        [day, *bounds],
    )
    _run(
        f"INSERT INTO {_STATUSES} (level, period, site, status, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT level, period, '', status, {_OF_CELLS} FROM {_STATUSES} "
        "WHERE level = 'd' AND period = %s GROUP BY level, period, status",
        [day],
    )


def fill_hours(hours: range) -> None:
    """Add the facts of whole days up by hour and site, and then over all sites."""
    hour = _EPOCH_HOUR[connection.vendor]
    _run(
        f"INSERT INTO {_HOURS} (period, site, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT {hour}, site, {_OF_FACTS} "
        f"FROM {_FACTS} WHERE finished_at >= %s AND finished_at < %s GROUP BY 1, 2",
        _bounds(hours.start // 24, hours.stop // 24),
    )
    _run(
        f"INSERT INTO {_HOURS} (period, site, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT period, '', {_OF_CELLS} FROM {_HOURS} "
        "WHERE period >= %s AND period < %s GROUP BY period",
        [hours.start, hours.stop],
    )


def fill_month(month: int, days: range) -> None:
    """Add the cells of days up to a month."""
    _run(
        f"INSERT INTO {_MONTHS} (period, site, account, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT %s, site, account, {_OF_CELLS} FROM {_DAYS} "
        "WHERE period >= %s AND period < %s GROUP BY site, account",
        [month, days.start, days.stop],
    )
    _run(
        f"INSERT INTO {_STATUSES} (level, period, site, status, {_SUMS}) "  # noqa: S608  # constants
        f"SELECT 'm', %s, site, status, {_OF_CELLS} FROM {_STATUSES} "
        "WHERE level = 'd' AND period >= %s AND period < %s GROUP BY site, status",
        [month, days.start, days.stop],
    )


def _bounds(first_day: int, end_day: int) -> list[Any]:
    adapt = connection.ops.adapt_datetimefield_value
    return [adapt(day_start(first_day)), adapt(day_start(end_day))]


def _run(statement: str, parameters: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
