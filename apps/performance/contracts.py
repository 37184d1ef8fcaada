"""What the statistics answer with: frozen values. Durations in seconds, shares from 0 to 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Some measured values: n, mean and extremes exact, percentiles within 2 % of a true value.

    All but `n` are None where nothing was measured.
    """

    n: int = 0
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How often something happened in the window, and in the one of the same length before."""

    name: str
    count: int = 0
    before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentError:
    """One failed login, or a request that ended without one. The message holds no secret."""

    at: datetime
    site: str
    account: str
    code: str
    message: str
    blame: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How the whole installation did in [since, until), or one site.

    Rates are None where there is nothing to rate. `in_flight`, `queued` and `oldest_wait_s` are
    of this moment. `timeout_errors` to `credential_errors` are parts of `failed`; cancelled
    requests are in none of the counts but their own.
    """

    since: datetime
    until: datetime
    site: str | None
    total: int
    success: int
    failed: int
    cancelled: int
    timeout_errors: int
    network_errors: int
    captcha_errors: int
    credential_errors: int
    success_rate: float | None
    timeout_rate: float | None
    total_s: Distribution
    login_s: Distribution
    queue_wait_s: Distribution
    store_s: Distribution
    retrieve_s: Distribution
    api_s: Distribution
    api_routes: Mapping[str, Distribution] = field(default_factory=dict)
    error_types: tuple[Trend, ...] = ()
    error_codes: tuple[Trend, ...] = ()
    login_errors: tuple[Trend, ...] = ()
    in_flight: int = 0
    queued: int = 0
    oldest_wait_s: float | None = None
    handed_out: int = 0
    handed_out_cached: int = 0
    cache_hit_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A metric in [at, at + step). `count` is a sum; `values` is empty for what is only counted."""

    at: datetime
    count: int
    values: Distribution
