"""A log-spaced scale for measured values, and what may be said from counts on it.

Bucket i holds (g^(i-1), g^i] with g = (1 + e) / (1 - e), and stands for 2 g^i / (g + 1): within e
of every value in it. Counts of one bucket add up over threads, processes, hosts and time, and so
do the quantiles read from them (DDSketch: Masson, Rim and Lee, VLDB 2019, without collapsing).
"""

import math
from typing import Final

RELATIVE_ERROR: Final = 0.02
GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST: Final = 1e-6
LARGEST: Final = 1e15
# Values up to SMALLEST, zero and below; and what was counted without a value.
ZERO_BUCKET: Final = -20_000
COUNT_BUCKET: Final = -20_001

_LOG_GROWTH: Final = math.log(GROWTH)


def bucket_of(value: float) -> int:
    """Return the bucket of a finite value; what is over LARGEST counts as LARGEST."""
    if value <= SMALLEST:
        return ZERO_BUCKET
    return math.ceil(math.log(value if value < LARGEST else LARGEST) / _LOG_GROWTH)


def value_of(bucket: int) -> float:
    """Return the value a bucket stands for."""
    if bucket <= ZERO_BUCKET:
        return 0.0
    return float(2 * GROWTH**bucket / (GROWTH + 1))
