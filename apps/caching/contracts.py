"""What the cache hands to others: frozen values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class Layer(StrEnum):
    """Where a value came from."""

    L1 = "l1"
    L2 = "l2"
    LOADER = "loader"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value and how it was found. `stale` values are past their policy's life."""

    value: Any = field(repr=False)
    layer: Layer
    stale: bool = False
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a namespace caches; times in seconds, shares from 0 to 1.

    `negative_ttl_s` is the life of a None (0: not kept). `jitter` is the share of the TTL that
    may be taken off at random. In the last `early_refresh` share of its life a value is renewed
    in the background while it is still served.
    """

    namespace: str
    ttl_s: float = 3_600
    l1_ttl_s: float = 3_600
    l1_entries: int = 1_000
    jitter: float = 0.1
    negative_ttl_s: float = 30
    stale_if_error_s: float = 900
    early_refresh: float = 0.0
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one layer of one namespace did in a window; `entries` and `bytes` are of now."""

    namespace: str
    layer: str
    hits: int = 0
    misses: int = 0
    negative_hits: int = 0
    stale_served: int = 0
    loads: int = 0
    load_ms: float = 0.0
    errors: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of reads that found something, 0 to 1; None when there were no reads."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`status` is `off` (no Redis configured), `ok` or `degraded`; reasons are short codes.

    `incidents` counts what happened to the shared layer since this process began, by code.
    """

    status: str
    reasons: tuple[str, ...] = ()
    since: datetime | None = None
    invalidation_live: bool = False
    pending_invalidations: int = 0
    policies_age_s: float = math.inf
    incidents: Mapping[str, int] = field(default_factory=dict)


HOUR_S: Final = 3_600
DAY_S: Final = 86_400
# Also written to the database by a migration, where operators change them.
SHIPPED: Final[tuple[Policy, ...]] = (
    Policy(namespace="tokens", ttl_s=HOUR_S, l1_ttl_s=5, negative_ttl_s=1, jitter=0, secret=True),
    Policy(namespace="credentials", ttl_s=HOUR_S, l1_ttl_s=5, negative_ttl_s=5, secret=True),
    Policy(namespace="account_statistics", ttl_s=300, l1_ttl_s=30),
    Policy(namespace="blacklist", ttl_s=300, l1_ttl_s=5),
    Policy(namespace="site_configuration", ttl_s=DAY_S, l1_ttl_s=HOUR_S, early_refresh=0.1),
    Policy(namespace="progress", ttl_s=DAY_S, l1_ttl_s=1, jitter=0, negative_ttl_s=0),
    Policy(namespace="reference_week", ttl_s=7 * DAY_S, l1_ttl_s=HOUR_S, early_refresh=0.05),
    Policy(namespace="reference_month", ttl_s=30 * DAY_S, l1_ttl_s=HOUR_S, early_refresh=0.05),
)
