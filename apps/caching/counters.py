"""What a layer did, counted in this process until it is flushed to rows.

Counting is one addition to a list under a lock that the read holds anyway.
"""

from dataclasses import dataclass
from typing import Final

FIELDS: Final = (
    "hits", "misses", "negative_hits", "stale_served", "loads", "load_ms", "errors", "evictions",
)  # fmt: skip
HITS, MISSES, NEGATIVE_HITS, STALE, LOADS, LOAD_MS, ERRORS, EVICTIONS = range(len(FIELDS))


def zeros() -> list[float]:
    return [0.0] * len(FIELDS)


@dataclass(frozen=True, slots=True)
class Count:
    """What one layer of one namespace did since the last flush, in the order of FIELDS."""

    namespace: str
    layer: str
    values: tuple[float, ...]
    entries: int = 0
    bytes: int = 0
