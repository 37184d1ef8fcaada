"""A log-spaced scale for durations, and percentiles read from it.

Each bucket is 5 % wider than the one before. A value is reported as the geometric middle of its
bucket, so a percentile is off by at most sqrt(1.05) - 1 = 2.5 % (the scheme of DDSketch, Masson
et al. 2019, without its collapsing).
"""

import math
from collections.abc import Mapping

from apps.history.contracts import Percentiles

GROWTH = 1.05
_LOG_GROWTH = math.log(GROWTH)
MAX_MS = 2**31 - 1


def to_ms(seconds: float) -> int:
    """Return whole milliseconds, between 0 and what a 32-bit column holds."""
    if not math.isfinite(seconds) or seconds < 0:
        return 0 if not seconds > 0 else MAX_MS
    return min(round(seconds * 1000), MAX_MS)


def bucket_of(duration_ms: int) -> int:
    """Return the bucket: 0 for 0 ms, else 1 plus how often 1 ms grew to reach the value."""
    return 0 if duration_ms < 1 else 1 + int(math.log(duration_ms) / _LOG_GROWTH)


def middle_s(bucket: int) -> float:
    """Return the value that stands for a bucket, in seconds."""
    return 0.0 if bucket < 1 else float(GROWTH ** (bucket - 0.5)) / 1000


def percentiles(
    counts: Mapping[int, int], *, lowest_s: float | None, highest_s: float | None
) -> Percentiles:
    """Return p50, p95 and p99 (nearest rank), kept within the known extremes."""
    total = sum(counts.values())
    if not total or lowest_s is None or highest_s is None:
        return Percentiles()
    ordered = sorted(counts.items())

    def at(share: float) -> float:
        rank, seen = max(1, math.ceil(share * total)), 0
        for bucket, count in ordered:
            seen += count
            if seen >= rank:
                return round(min(max(middle_s(bucket), lowest_s), highest_s), 4)
        return highest_s

    return Percentiles(p50_s=at(0.50), p95_s=at(0.95), p99_s=at(0.99))
