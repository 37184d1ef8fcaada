"""The figures of the whole installation, over any window."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from apps.caching import services as cache
from apps.caching.contracts import Layer
from apps.common import clock, events
from apps.common.errors import ErrorType, ValidationFailed
from apps.history.contracts import HistoryStatus
from apps.performance import selectors
from apps.performance.contracts import Distribution, Metrics, Point, Trend
from apps.performance.selectors import Labels
from apps.performance.services.distributions import Tally, merged

WINDOW_S: Final = 300.0
MAX_WINDOW_S: Final = 366 * 86_400.0
MAX_POINTS: Final = 2_000
METRICS: Final = (
    events.ACQUISITIONS, events.LOGINS, events.HAND_OUTS, events.ERROR_TYPES, events.ERROR_CODES,
    events.TOTAL_S, events.LOGIN_S, events.QUEUE_WAIT_S, events.STORE_S, events.RETRIEVE_S,
    events.API_S,
)  # fmt: skip
# What is not measured by site is shown for the whole installation only.
_TRENDS: Final = (events.ERROR_TYPES, events.ERROR_CODES, events.LOGINS)


def metrics(window_s: float = WINDOW_S, site: str | None = None) -> Metrics:
    """Return everything that is measured of the last `window_s` seconds, at most 3 s late.

    The window begins with a whole minute, and not before the last reset; past the last day it is
    as coarse as the rows are by then, hours and days. Raises ValidationFailed.
    """
    until = clock.now()
    since = _not_before_reset(window_start(window_s, until=until), at=until)
    found = selectors.tallies(METRICS, since=since, until=until, site=site)
    # Rows are of whole minutes, so what is compared with has to begin with one too.
    earlier = (since - (until - since)).replace(second=0, microsecond=0)
    earlier = _not_before_reset(earlier, at=until)
    before = selectors.tallies(_TRENDS, since=earlier, until=since, site=site)
    ended = {label: tally.counted for label, tally in found[events.ACQUISITIONS].items()}
    cancelled = ended.pop(events.CANCELLED, 0)
    total, success = sum(ended.values()), ended.get(HistoryStatus.SUCCESS, 0)
    hand_outs = found[events.HAND_OUTS]
    queued, oldest_s = selectors.queue(at=until, site=site)
    logins = {label: tally for label, tally in found[events.LOGINS].items() if label != "ok"}
    return Metrics(
        since=since,
        until=until,
        site=site,
        total=total,
        success=success,
        failed=total - success,
        cancelled=cancelled,
        timeout_errors=ended.get(HistoryStatus.TIMEOUT, 0),
        network_errors=ended.get(HistoryStatus.NETWORK_ERROR, 0),
        captcha_errors=ended.get(HistoryStatus.CAPTCHA_ERROR, 0),
        credential_errors=ended.get(HistoryStatus.CREDENTIAL_ERROR, 0),
        success_rate=_share(success, total),
        timeout_rate=_share(ended.get(HistoryStatus.TIMEOUT, 0), total),
        total_s=_whole(found[events.TOTAL_S]),
        login_s=_whole(found[events.LOGIN_S]),
        queue_wait_s=_whole(found[events.QUEUE_WAIT_S]),
        store_s=_whole(found[events.STORE_S]),
        retrieve_s=_whole(found[events.RETRIEVE_S]),
        api_s=_whole(found[events.API_S]),
        api_routes={
            label: tally.distribution() for label, tally in sorted(found[events.API_S].items())
        },
        error_types=_trends(
            found[events.ERROR_TYPES], before[events.ERROR_TYPES], always=list(ErrorType)
        ),
        error_codes=_trends(found[events.ERROR_CODES], before[events.ERROR_CODES]),
        login_errors=_trends(logins, before[events.LOGINS], never=("ok",)),
        in_flight=selectors.in_flight(site),
        queued=queued,
        oldest_wait_s=oldest_s,
        handed_out=sum(tally.counted for tally in hand_outs.values()),
        handed_out_cached=hand_outs["cached"].counted if "cached" in hand_outs else 0,
        cache_hit_rate=hit_rate((until - since).total_seconds()),
    )


def series(
    metric: str, start: datetime, end: datetime, step_s: int, *, site: str | None = None,
    label: str | None = None,
) -> list[Point]:  # fmt: skip
    """Return one point for each step of [start, end), also where nothing was measured.

    A step is at least a minute; a row belongs to the step its period begins in. Raises
    ValidationFailed for an empty span, or more than 2,000 steps.
    """
    span_s = (end - start).total_seconds()
    if step_s < 60 or span_s <= 0 or span_s / step_s > MAX_POINTS:
        raise ValidationFailed(
            f"A series has steps of 60 s or more, {MAX_POINTS} at most, and ends after it begins."
        )
    points = [Tally() for _ in range(math.ceil(span_s / step_s))]
    rows = selectors.rows([metric], since=start, until=end, site=site)
    if label is not None:
        rows = rows.filter(label=label)
    columns = ("minute", "bucket", "n", "total", "min", "max")
    for at, *row in rows.values_list(*columns).iterator():
        points[int((at - start).total_seconds() // step_s)].add(*row)
    return [
        Point(
            at=start + timedelta(seconds=number * step_s),
            count=tally.counted + tally.n,
            values=tally.distribution(),
        )
        for number, tally in enumerate(points)
    ]


def hit_rate(window_s: float = WINDOW_S) -> float | None:
    """Return the share of reads that this process or Redis answered; None without reads."""
    return hits(window_s)[0]


def hits(window_s: float = WINDOW_S) -> tuple[float | None, int]:
    """Return the same share, and of how many reads it is."""
    reads = found = 0
    for usage in cache.statistics(window_s):
        found += usage.hits
        if usage.layer == Layer.L1:
            # Every read asks this layer first; what it misses, the next may still have.
            reads += usage.hits + usage.misses
    return _share(min(found, reads), reads), reads


def window_start(window_s: float, *, until: datetime) -> datetime:
    """Return the whole minute a window begins at, resets or not. Raises ValidationFailed."""
    if not 1 <= window_s <= MAX_WINDOW_S:
        raise ValidationFailed("A window is between a second and a year.")
    return (until - timedelta(seconds=window_s)).replace(second=0, microsecond=0)


def _not_before_reset(since: datetime, *, at: datetime) -> datetime:
    shown = selectors.shown_since(at=at)
    return since if shown is None else max(since, shown)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _whole(labels: Labels) -> Distribution:
    return merged(labels.values()).distribution()


def _trends(
    now: Labels, before: Labels, *, always: Iterable[str] = (), never: Iterable[str] = ()
) -> tuple[Trend, ...]:
    names = {*now, *before, *map(str, always)} - {*never}
    found = [
        Trend(name=name, count=_counted(now, name), before=_counted(before, name)) for name in names
    ]
    return tuple(sorted(found, key=lambda trend: (-trend.count, -trend.before, trend.name)))


def _counted(labels: Mapping[str, Tally], name: str) -> int:
    tally = labels.get(name)
    return tally.counted if tally else 0
