"""The date drill-down of the admin without reading every row."""

from datetime import datetime, timedelta, tzinfo
from typing import Any

from django.utils import timezone

from apps.history.querysets import HistoryQuerySet


class DrillDown(HistoryQuerySet):
    """Finds the years, months or days that hold rows by probing the index for each.

    Django would truncate the time of every row to find the distinct ones.
    """

    def aggregate(self, *unnamed: Any, **wanted: Any) -> dict[str, Any]:
        """Return each figure by a query of its own: the template asks for both ends at once."""
        one = super().aggregate
        found = one(*unnamed) if unnamed else {}
        for name, figure in wanted.items():
            found |= one(**{name: figure})
        return found

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
        first, last = rows.ends()
        if first is None or last is None:
            return []
        found = []
        at = _start(first.astimezone(zone), kind)
        while at <= last:
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
