"""Days and months as whole numbers, always in UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def day_of(at: datetime) -> int:
    """Return the days since 1970."""
    return (at - EPOCH) // DAY


def hour_of(at: datetime) -> int:
    """Return the hours since 1970."""
    return (at - EPOCH) // HOUR


def month_of(at: datetime) -> int:
    """Return year times 12 plus month minus 1."""
    at = at.astimezone(UTC)
    return at.year * 12 + at.month - 1


def day_start(day: int) -> datetime:
    return EPOCH + day * DAY


def hour_start(hour: int) -> datetime:
    return EPOCH + hour * HOUR


def month_start(month: int) -> datetime:
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def month_of_day(day: int) -> int:
    return month_of(day_start(day))


def days_of_month(month: int) -> range:
    """Return the days of a month, as numbers."""
    return range(day_of(month_start(month)), day_of(month_start(month + 1)))
