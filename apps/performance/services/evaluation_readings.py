"""The values that rules are held against, for all sites with one query a metric and window.

Sites in their closed hours are left out, also of what is read of all sites as one: nobody is to
be woken because requests ran out of time while nothing may log in. A reset changes what people are
shown, and nothing here.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Avg, Count, Max, Min, Sum

from apps.caching import services as cache
from apps.caching.contracts import Layer
from apps.common import events
from apps.history.contracts import HistoryStatus
from apps.performance import selectors
from apps.performance.models import SystemSample
from apps.performance.models.alerts import AlertMetric
from apps.performance.services import forecast, sampling, statistics
from apps.performance.services.alert_rules import NOTHING, Reading
from apps.performance.services.distributions import Tally, merged
from apps.tokens.models import Site, TokenRequest
from apps.tokens.models.requests import Status

MS: Final = 1_000.0
PERCENT: Final = 100.0
BySite = Mapping[str, Mapping[str, Tally]]


class Readings:
    """What is known at one moment. Each question is asked of the database once.

    `open_sites` are the slugs of the sites that may log in now; what concerns others is left out.
    """

    def __init__(self, *, at: datetime, open_sites: Collection[str]) -> None:
        self.at = at
        self.open_sites = frozenset(open_sites)
        self._tallies: dict[tuple[str, int], BySite] = {}
        self._waiting: dict[str, int] | None = None
        self._read: dict[str, Callable[[str, int], Reading]] = {
            AlertMetric.SUCCESS_RATE: self._success_rate,
            AlertMetric.TIMEOUT_RATE: self._timeout_rate,
            AlertMetric.MEAN_TOTAL_S: self._mean_total_s,
            AlertMetric.IN_FLIGHT_AND_WAITING: self._in_flight_and_waiting,
            AlertMetric.MEMORY: lambda _, window_s: self._host("memory_percent", window_s),
            AlertMetric.CPU: lambda _, window_s: self._host("cpu_percent", window_s),
            AlertMetric.CACHE_HIT_RATE: self._cache_hit_rate,
            AlertMetric.STORE_P95_MS: lambda s, w: self._p95_ms(events.STORE_S, s, w),
            AlertMetric.RETRIEVE_P95_MS: lambda s, w: self._p95_ms(events.RETRIEVE_S, s, w),
            AlertMetric.API_P95_MS: lambda s, w: self._p95_ms(events.API_S, s, w),
            AlertMetric.POOL_LASTS_MIN: self._pool_lasts_min,
        }

    def read(self, metric: str, *, site: str, window_s: int) -> Reading:
        """Return the metric's value at a site, or of all open ones as one where `site` is ''."""
        return self._read[metric](site, window_s)

    def _success_rate(self, site: str, window_s: int) -> Reading:
        return self._share(HistoryStatus.SUCCESS, site, window_s)

    def _timeout_rate(self, site: str, window_s: int) -> Reading:
        return self._share(HistoryStatus.TIMEOUT, site, window_s)

    def _share(self, status: HistoryStatus, site: str, window_s: int) -> Reading:
        ended = self._of(events.ACQUISITIONS, site, window_s)
        total = sum(tally.counted for label, tally in ended if label != events.CANCELLED)
        if not total:
            return NOTHING
        part = sum(tally.counted for label, tally in ended if label == status)
        return Reading(value=PERCENT * part / total, observations=total)

    def _mean_total_s(self, site: str, window_s: int) -> Reading:
        whole = merged(tally for _, tally in self._of(events.TOTAL_S, site, window_s))
        return Reading(value=whole.total / whole.n, observations=whole.n) if whole.n else NOTHING

    def _p95_ms(self, metric: str, site: str, window_s: int) -> Reading:
        whole = merged(tally for _, tally in self._of(metric, site, window_s))
        if not whole.n:
            return NOTHING
        (p95,) = whole.quantiles((0.95,))
        return Reading(value=p95 * MS, observations=whole.n)

    def _in_flight_and_waiting(self, site: str, _window_s: int) -> Reading:
        if self._waiting is None:
            live = TokenRequest.objects.filter(status__in=[Status.QUEUED, Status.RUNNING])
            counts = live.order_by().values_list("site__slug").annotate(n=Count("pk"))
            self._waiting = {slug: n for slug, n in counts if slug in self.open_sites}
        found = self._waiting.get(site, 0) if site else sum(self._waiting.values())
        return Reading(value=float(found), observations=1)

    def _host(self, column: str, window_s: int) -> Reading:
        """Return the mean of the worst host: the mean of all would hide it."""
        since = self.at - timedelta(seconds=window_s)
        recent = SystemSample.objects.filter(at__gt=since, at__lte=self.at)
        recent = recent.exclude(role=sampling.QUEUE)  # the supervisor's look, once more
        hosts = recent.order_by().values("host").annotate(mean=Avg(column), n=Count("pk"))
        worst = max(hosts, key=lambda host: host["mean"], default=None)
        return Reading(value=worst["mean"], observations=worst["n"]) if worst else NOTHING

    def _cache_hit_rate(self, _site: str, window_s: int) -> Reading:
        share = statistics.hit_rate(float(window_s))
        if share is None:
            return NOTHING
        firsts = [usage for usage in cache.statistics(window_s) if usage.layer == Layer.L1]
        reads = sum(usage.hits + usage.misses for usage in firsts)
        return Reading(value=PERCENT * share, observations=reads)

    def _pool_lasts_min(self, site: str, _window_s: int) -> Reading:
        row = Site.objects.filter(slug=site).first()
        found = forecast.of_site(row, at=self.at) if row else None
        if found is None or not found.accounts:
            return NOTHING
        minutes = math.inf if found.exhausted_in_min is None else found.exhausted_in_min
        return Reading(value=minutes, observations=found.accounts)

    def _of(self, metric: str, site: str, window_s: int) -> list[tuple[str, Tally]]:
        """Return (label, tally) of a site, or of all open ones and of what has no site."""
        by_site = self._load(metric, window_s)
        wanted = [site] if site else [slug for slug in by_site if slug in {"", *self.open_sites}]
        return [item for slug in wanted for item in by_site.get(slug, {}).items()]

    def _load(self, metric: str, window_s: int) -> BySite:
        key = metric, window_s
        if key not in self._tallies:
            since = statistics.window_start(window_s, until=self.at)
            summed = (
                selectors.rows([metric], since=since, until=self.at)
                .values_list("site", "label", "bucket")
                .annotate(Sum("n"), Sum("total"), Min("min"), Max("max"))
            )
            found: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
            for slug, label, bucket, *sums in summed:
                found[slug][label].add(bucket, *sums)
            self._tallies[key] = found
        return self._tallies[key]
