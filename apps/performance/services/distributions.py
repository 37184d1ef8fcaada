"""Percentiles from the counts of buckets."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from apps.common.scale import COUNT_BUCKET, value_of
from apps.performance.contracts import Distribution


@dataclass(slots=True)
class Tally:
    """Rows added up: exact sums and extremes, and counts by bucket."""

    n: int = 0
    counted: int = 0
    total: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, bucket: int, n: int, total: float, lowest: float, highest: float) -> None:
        """Add one row."""
        if bucket == COUNT_BUCKET:
            self.counted += n
            return
        self.n += n
        self.total += total
        self.lowest = min(self.lowest, lowest)
        self.highest = max(self.highest, highest)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + n

    def merge(self, other: "Tally") -> None:
        """Add another tally."""
        self.n += other.n
        self.counted += other.counted
        self.total += other.total
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)
        for bucket, n in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + n

    def distribution(self) -> Distribution:
        """Return mean, extremes and percentiles."""
        if not self.n:
            return Distribution()
        p50, p95, p99 = self.quantiles((0.50, 0.95, 0.99))
        return Distribution(
            n=self.n,
            mean=self.total / self.n,
            min=self.lowest,
            max=self.highest,
            p50=p50,
            p95=p95,
            p99=p99,
        )

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """Return the values at these shares (nearest rank); there must be some."""
        ordered = sorted(self.buckets.items())
        upto = list(accumulate(n for _, n in ordered))
        found = []
        for share in shares:
            bucket, _ = ordered[bisect_left(upto, max(1, math.ceil(share * self.n)))]
            found.append(min(max(value_of(bucket), self.lowest), self.highest))
        return found


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of some tallies."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole
