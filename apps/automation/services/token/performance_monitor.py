"""`performance_monitor`: a door to the measurements."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final, Self

from cachetools import LRUCache

from apps.common import clock, events
from apps.common.errors import ErrorType
from apps.history import services as history
from apps.history.contracts import HistoryStatus, Window
from apps.performance.models import AlertRule
from apps.performance.models.alerts import AlertMetric
from apps.performance.services import health, resetting, statistics

REMEMBERED: Final = 10_000


@dataclass
class AlertThresholds:
    """Thresholds as older documents have them; the alert rules in the admin decide."""

    min_success_rate: float = 80.0  # percent
    max_avg_duration: float = 120.0  # seconds
    max_timeout_rate: float = 10.0  # percent
    max_concurrent_acquisitions: int = 5  # in flight and waiting together
    min_cache_hit_rate: float = 70.0  # percent

    @classmethod
    def current(cls) -> Self:
        """Return the thresholds of the enabled rules that hold for all sites, or for each."""
        rules = AlertRule.objects.filter(enabled=True, site__in=["", "*"], metric__in=_FIELDS)
        found: dict[str, Any] = {_FIELDS[rule.metric]: rule.threshold for rule in rules}
        if "max_concurrent_acquisitions" in found:
            found["max_concurrent_acquisitions"] = int(found["max_concurrent_acquisitions"])
        return cls(**found)


class TokenPerformanceMonitor:
    """Records acquisitions that other code makes, and reads the metrics of the installation."""

    def __init__(self) -> None:
        self._sites: LRUCache[str, str] = LRUCache(REMEMBERED)

    def record_acquisition_start(self, acquisition_id: str, site_name: str, account: str) -> None:
        """Note that an acquisition began at a site; the account is not measured."""
        self._sites[acquisition_id] = site_name

    def record_acquisition_end(
        self,
        acquisition_id: str,
        success: bool,
        total_duration: float,
        login_duration: float | None = None,
        error_type: str | None = None,
    ) -> None:
        """Count an acquisition that ended, and its times in seconds.

        `error_type` is a status of the history (`timeout`, `network_error`, …); others count as
        `failed`.
        """
        site = self._sites.pop(acquisition_id, "")
        failures = {str(status): status for status in HistoryStatus}
        failed = failures.get(error_type or "", HistoryStatus.FAILED)
        status = HistoryStatus.SUCCESS if success else failed
        events.acquisition_ended(site=site, status=status, total_s=total_duration)
        if login_duration is not None:
            code = "" if success else str(status)
            events.login_ended(
                site=site, took_s=login_duration, error_type=ErrorType.API, code=code
            )

    def get_real_time_metrics(
        self, window_s: float = 300.0, site_name: str | None = None
    ) -> dict[str, Any]:
        """Return everything that is measured over a window, as `GET performance/metrics` does."""
        return asdict(statistics.metrics(window_s, site_name))

    def get_statistics_report(self, days: int = 7, site_name: str = "") -> dict[str, Any]:
        """Return counts, rates and times of the history of so many days."""
        end = clock.now()
        window = Window(start=end - timedelta(days=days), end=end, site=site_name)
        return asdict(history.statistics(window))

    def check_health(self) -> dict[str, Any]:
        """Return `status` and `reasons`, as `GET performance/health` does."""
        return asdict(health.check())

    def reset_metrics(self) -> None:
        """Show metrics from now on."""
        resetting.reset(by="python")


_FIELDS: Final[dict[str, str]] = {
    AlertMetric.SUCCESS_RATE: "min_success_rate",
    AlertMetric.MEAN_TOTAL_S: "max_avg_duration",
    AlertMetric.TIMEOUT_RATE: "max_timeout_rate",
    AlertMetric.IN_FLIGHT_AND_WAITING: "max_concurrent_acquisitions",
    AlertMetric.CACHE_HIT_RATE: "min_cache_hit_rate",
}

performance_monitor: Final = TokenPerformanceMonitor()
