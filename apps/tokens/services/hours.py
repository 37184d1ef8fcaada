"""When a site is open for logins: closed hours in the site's time zone, and pauses.

Closed hours are a list of `{"days": [...], "from": "HH:MM", "to": "HH:MM"}`; without `days`, every
day; `to` before `from` runs over midnight and belongs to the day it begins on; "24:00" is the end
of the day. Times are of the wall clock. Where one of them falls into an hour that daylight saving
skips or repeats, the closing is the longer of the two readings.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apps.common.errors import ValidationFailed
from apps.tokens.models import AdmissionLimits, Site

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_KEYS: Final = {"days", "from", "to"}
# Closed hours repeat weekly; what is closed for all of this is closed for good.
_LOOK_AHEAD: Final = timedelta(days=8)

Span = tuple[datetime, datetime]


def check(closed_hours: Any, time_zone: str, *, field: str = "closed_hours") -> None:
    """Raise ValidationFailed naming the field and the entry that is wrong."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _wrong("time_zone", f"There is no time zone {time_zone!r}.") from None
    if not isinstance(closed_hours, list):
        raise _wrong(field, "Must be a list.")
    for number, entry in enumerate(closed_hours, start=1):
        if reason := _fault(entry):
            raise _wrong(field, f"Entry {number}: {reason}")


def opens_at(site: Site, *, at: datetime) -> datetime | None:
    """Return when the site opens next if it is closed or paused at `at`.

    `at` itself means open now; None means closed until a person acts.
    """
    moment = at
    if site.paused:
        if site.paused_until is None:
            return None
        moment = max(moment, site.paused_until)
    spans = _spans(site.closed_hours, site.time_zone, moment)
    for begin, end in spans:
        if begin <= moment < end:
            moment = end
    return None if _for_good(spans, moment) else moment


def is_open(site: Site, *, at: datetime) -> bool:
    """Say whether logins may be made at this site now."""
    return opens_at(site, at=at) == at


def is_warm_time(site: Site, *, at: datetime) -> bool:
    """Say whether the site's tokens are to be kept warm now."""
    if not site.warm_hours:
        return True
    return any(begin <= at < end for begin, end in _spans(site.warm_hours, site.time_zone, at))


def closed_sites(sites: Iterable[Site], limits: AdmissionLimits, *, at: datetime) -> set[Any]:
    """Return the ids of the sites that are closed; all of them while everything is paused."""
    return {site.pk for site in sites if limits.paused or not is_open(site, at=at)}


def _spans(weekly: Iterable[Mapping[str, Any]], time_zone: str, at: datetime) -> list[Span]:
    """Return the spans around `at` of hours that repeat weekly, sorted and merged."""
    zone = ZoneInfo(time_zone)
    today = at.astimezone(zone).date()
    spans = sorted(
        span
        for offset in range(-1, _LOOK_AHEAD.days + 1)
        for entry in weekly
        if (span := _span(entry, today + timedelta(days=offset), zone))
    )
    merged: list[Span] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _span(entry: Mapping[str, Any], day: date, zone: ZoneInfo) -> Span | None:
    if DAYS[day.weekday()] not in entry.get("days", DAYS):
        return None
    begin, end = _wall_time(day, entry["from"]), _wall_time(day, entry["to"])
    if end <= begin:
        end += timedelta(days=1)
    return min(_readings(begin, zone)), max(_readings(end, zone))


def _wall_time(day: date, text: str) -> datetime:
    if text == "24:00":
        return datetime.combine(day, time()) + timedelta(days=1)
    return datetime.combine(day, time.fromisoformat(text))


def _readings(wall_time: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the two moments a wall clock's time can mean; they differ around a change only."""
    first = wall_time.replace(tzinfo=zone, fold=0)
    return first.astimezone(UTC), first.replace(fold=1).astimezone(UTC)


def _for_good(spans: list[Span], moment: datetime) -> bool:
    """Say whether `moment` is the end of all we looked at: then the week has no open hour."""
    return any(moment == end and end - begin >= _LOOK_AHEAD for begin, end in spans)


def _fault(entry: Any) -> str:
    if not isinstance(entry, dict) or not {"from", "to"} <= set(entry) <= _KEYS:
        return "needs from and to, and may have days."
    for name in ("from", "to"):
        if not isinstance(entry[name], str) or not _TIME.fullmatch(entry[name]):
            return f"{name} must be HH:MM."
    days = entry.get("days", [])
    if not isinstance(days, list) or not all(day in DAYS for day in days):
        return f"days must be among {', '.join(DAYS)}."
    return ""


def _wrong(field: str, reason: str) -> ValidationFailed:
    return ValidationFailed(f"{field}: {reason}", details={"errors": {field: [reason]}})
