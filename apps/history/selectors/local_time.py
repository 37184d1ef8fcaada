"""Local days and hours as SQL, without a function call a row."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Case, F, Func, IntegerField, Value, When
from django.db.models.expressions import Combinable

from apps.history.periods import EPOCH, HOUR, hour_of

DAY_S = 86_400
HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Offset:
    """What to add to UTC, in seconds, for times before `until`."""

    until: datetime
    seconds: int


class EpochSeconds(Func):
    """Whole seconds since 1970 of a time column."""

    output_field = BigIntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "FLOOR(EXTRACT(EPOCH FROM %(expressions)s))::bigint"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # Without the fraction: SQLite would round .9996 up into the next second.
        template = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER)"
        return self.as_sql(compiler, connection, template=template, **extra)


def offsets(zone: ZoneInfo, start: datetime, end: datetime) -> list[Offset]:
    """Return the offsets in force between two times, in order; changes found to the second."""
    found: list[Offset] = []
    at, current = start, _offset(zone, start)
    while at < end:
        ahead = min(at + timedelta(days=1), end)
        if _offset(zone, ahead) != current:
            change = _change(zone, at, ahead)
            found.append(Offset(until=change, seconds=current))
            current = _offset(zone, change)
        at = ahead
    found.append(Offset(until=datetime.max.replace(tzinfo=UTC), seconds=current))
    return found


def on_whole_hours(found: list[Offset]) -> bool:
    """Say whether local days and hours begin where hour cells begin."""
    changes = [offset.until for offset in found[:-1]]
    return all(offset.seconds % HOUR_S == 0 for offset in found) and all(
        (change - EPOCH) % HOUR == timedelta(0) for change in changes
    )


def day_of_cells(found: list[Offset]) -> Combinable:
    """Return the local day (days since 1970) of an hour cell."""
    hours = _by_offset(found, "period__lt", hour_of, lambda seconds: seconds // HOUR_S)
    return (F("period") + hours) / Value(24)


def day_of_facts(found: list[Offset]) -> Combinable:
    """Return the local day (days since 1970) of a fact."""
    seconds = _by_offset(found, "finished_at__lt", lambda at: at, lambda seconds: seconds)
    return (EpochSeconds("finished_at") + seconds) / Value(DAY_S)


def hour_of_facts(found: list[Offset]) -> Combinable:
    """Return the start of a fact's local hour, in seconds since 1970."""
    shift = _by_offset(found, "finished_at__lt", lambda at: at, lambda seconds: seconds % HOUR_S)
    return (EpochSeconds("finished_at") + shift) / Value(HOUR_S) * Value(HOUR_S) - shift


def _by_offset(found: list[Offset], lookup: str, until: Any, value: Any) -> Combinable:
    last = Value(value(found[-1].seconds), output_field=IntegerField())
    if len(found) == 1:
        return last
    whens = [When(**{lookup: until(o.until), "then": Value(value(o.seconds))}) for o in found[:-1]]
    return Case(*whens, default=last, output_field=IntegerField())


def _offset(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Return the first whole second at which the offset is no longer that of `low`."""
    before = _offset(zone, low)
    low_s, high_s = int(low.timestamp()), int(high.timestamp()) + 1
    while high_s - low_s > 1:
        middle = (low_s + high_s) // 2
        if _offset(zone, datetime.fromtimestamp(middle, UTC)) == before:
            low_s = middle
        else:
            high_s = middle
    return datetime.fromtimestamp(high_s, UTC)
