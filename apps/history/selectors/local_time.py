"""Local days and hours as SQL, without a function call a row."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Case, F, Func, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest

from apps.history.periods import EPOCH, HOUR, hour_of

DAY_S = 86_400
HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Offset:
    """What to add to UTC, in seconds, for times in [since, until)."""

    since: datetime
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
    since, at, current = start, start, _offset(zone, start)
    while at < end:
        ahead = min(at + timedelta(days=1), end)
        if _offset(zone, ahead) != current:
            change = _change(zone, at, ahead)
            found.append(Offset(since=since, until=change, seconds=current))
            since, current = change, _offset(zone, change)
        at = ahead
    found.append(Offset(since=since, until=datetime.max.replace(tzinfo=UTC), seconds=current))
    return found


def on_whole_hours(found: list[Offset]) -> bool:
    """Say whether local days and hours begin where hour cells begin."""
    changes = [offset.until for offset in found[:-1]]
    return all(offset.seconds % HOUR_S == 0 for offset in found) and all(
        (change - EPOCH) % HOUR == timedelta(0) for change in changes
    )


def day_of_cells(found: list[Offset]) -> Combinable:
    """Return the local day (days since 1970) of an hour cell."""
    hours = _by_offset(found, "period__lt", hour_of, lambda offset: offset.seconds // HOUR_S)
    return (F("period") + hours) / Value(24)


def day_of_facts(found: list[Offset]) -> Combinable:
    """Return the local day (days since 1970) of a fact."""
    seconds = _of_facts(found, lambda offset: offset.seconds)
    return (EpochSeconds("finished_at") + seconds) / Value(DAY_S)


def hour_of_facts(found: list[Offset]) -> Combinable:
    """Return when a fact's local hour begins, in seconds since 1970.

    Where the offset changes within an hour of the clock, a part with an offset of its own begins.
    """
    shift = _of_facts(found, lambda offset: offset.seconds % HOUR_S)
    begins = (EpochSeconds("finished_at") + shift) / Value(HOUR_S) * Value(HOUR_S) - shift
    since = _of_facts(found, lambda offset: int(offset.since.timestamp()))
    return Greatest(begins, since, output_field=BigIntegerField())


def hour_name(epoch_s: int, zone: ZoneInfo) -> str:
    """Return the hour of the clock at this time, with its offset: 2026-03-01T14:00+08:00."""
    at = datetime.fromtimestamp(epoch_s, UTC).astimezone(zone).isoformat(timespec="minutes")
    # As text: replace(minute=0) may find another offset in force.
    return f"{at[:14]}00{at[16:]}"


def _of_facts(found: list[Offset], value: Callable[[Offset], int]) -> Combinable:
    return _by_offset(found, "finished_at__lt", lambda at: at, value)


def _by_offset(
    found: list[Offset], lookup: str, until: Any, value: Callable[[Offset], int]
) -> Combinable:
    last = Value(value(found[-1]), output_field=BigIntegerField())
    if len(found) == 1:
        return last
    whens = [When(**{lookup: until(o.until), "then": Value(value(o))}) for o in found[:-1]]
    return Case(*whens, default=last, output_field=BigIntegerField())


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
