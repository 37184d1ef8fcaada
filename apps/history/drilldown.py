"""The date drill-down of the admin without reading every row."""

from datetime import datetime, timedelta, tzinfo
from typing import Any

from django.db.models import Max, Min
from django.utils import timezone

from apps.history.querysets import HistoryQuerySet


class DrillDown(HistoryQuerySet):
    """Finds the years, months or days that hold rows by probing the index for each.

    Django would truncate the time of every row to find the distinct ones.
    """

    def datetimes(
        self,
        field_name: str,
        kind: str,
        order: str = "ASC",
        tzinfo: tzinfo | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the starts of the periods (`kind`: year, month or day) that are not empty."""
        zone = tzinfo or timezone.get_current_timezone()
        rows = self.order_by()
        ends = rows.aggregate(first=Min(field_name), last=Max(field_name))
        if ends["first"] is None:
            return []
        found = []
        at = _start(ends["first"].astimezone(zone), kind)
        while at <= ends["last"]:
            following = _next(at, kind)
            if rows.filter(**{f"{field_name}__gte": at, f"{field_name}__lt": following}).exists():
                found.append(at)
            at = following
        return found if order == "ASC" else found[::-1]


def _start(at: datetime, kind: str) -> datetime:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return day
    return day.replace(day=1) if kind == "month" else day.replace(month=1, day=1)


def _next(at: datetime, kind: str) -> datetime:
    if kind == "year":
        return at.replace(year=at.year + 1)
    if kind == "month":
        return at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)
    # By the calendar: a local day may have 23 or 25 hours.
    return datetime.combine(at.date() + timedelta(days=1), at.timetz())
