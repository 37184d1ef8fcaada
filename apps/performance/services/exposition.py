"""The metrics in the form Prometheus reads, from the rows that all processes share.

Counts and histograms come from the rows of all time, so they only grow, however many processes
there are and whenever one ends. A histogram's edges are those of the nearest bucket: a value is
counted on the right side of an edge unless it is within 2 % of it.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import Count, Subquery
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from apps.common import clock, events
from apps.common.scale import COUNT_BUCKET, value_of
from apps.performance.models import MetricBucket, Resolution
from apps.performance.services import resources, statistics
from apps.performance.services.storing import EPOCH
from apps.tokens.models import AdmissionLimits, LoginAttempt, Site, TokenRequest, WorkerProcess
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Status
from apps.tokens.services import hours

SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
LONG: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


@dataclass(frozen=True, slots=True)
class _Family:
    """How a metric is called outside; `site` and `label` name its labels, '' for none."""

    name: str
    text: str
    site: bool = False
    label: str = ""
    edges: tuple[float, ...] = ()

    def labels(self) -> list[str]:
        return [*(["site"] if self.site else []), *([self.label] if self.label else [])]

    def values(self, site: str, label: str) -> tuple[str, ...]:
        return (*((site,) if self.site else ()), *((label,) if self.label else ()))


COUNTERS: Final = {
    events.ACQUISITIONS: _Family(
        "latchkey_acquisitions", "Requests that ended, by how.", site=True, label="status"
    ),
    events.LOGINS: _Family(
        "latchkey_logins", "Logins that ended, ok or by error.", site=True, label="result"
    ),
    events.HAND_OUTS: _Family(
        "latchkey_hand_outs", "Tokens handed to callers.", site=True, label="source"
    ),
    events.ERROR_TYPES: _Family("latchkey_errors", "Errors by type.", label="type"),
    events.ERROR_CODES: _Family("latchkey_problems", "Problems answered, by code.", label="code"),
    events.ANSWERS: _Family("latchkey_api_answers", "Answers by class of status.", label="status"),
    events.CACHE_INCIDENTS: _Family(
        "latchkey_cache_incidents", "What happened to the shared cache.", label="reason"
    ),
    events.CALLS: _Family(
        "latchkey_calls", "Calls of monitored functions.", site=True, label="function"
    ),
    events.CALL_ERRORS: _Family(
        "latchkey_call_errors", "Errors of monitored functions.", site=True, label="function"
    ),
}
HISTOGRAMS: Final = {
    events.TOTAL_S: _Family(
        "latchkey_acquisition_duration_seconds", "From asking to the end.", True, "", LONG
    ),
    events.LOGIN_S: _Family(
        "latchkey_login_duration_seconds", "Of one login.", True, "result", LONG
    ),
    events.QUEUE_WAIT_S: _Family(
        "latchkey_queue_wait_seconds", "From asking to the first login.", True, "", LONG
    ),
    events.STORE_S: _Family(
        "latchkey_token_store_duration_seconds", "Writing a token.", False, "", SHORT
    ),
    events.RETRIEVE_S: _Family(
        "latchkey_token_retrieve_duration_seconds", "Finding a token.", True, "", SHORT
    ),
    events.API_S: _Family(
        "latchkey_api_request_duration_seconds", "API requests.", False, "route", SHORT
    ),
    events.WAITED_S: _Family(
        "latchkey_acquire_wait_seconds", "Acquire, with the caller's wait.", False, "route", LONG
    ),
    events.CALL_S: _Family(
        "latchkey_call_duration_seconds", "Monitored functions.", True, "function", SHORT
    ),
}


class SharedRows(Collector):
    """Collects from the database at every scrape."""

    def collect(self) -> Iterable[Metric]:
        """Yield all families, also those without a sample yet."""
        yield from _grown()
        yield from _of_work()
        yield from _of_machines()


def text() -> bytes:
    """Return the whole exposition, in Prometheus' text format. Raises DatabaseError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SharedRows())
    return generate_latest(registry)


Sums = dict[tuple[str, ...], dict[int, tuple[int, float]]]


def _grown() -> Iterator[Metric]:
    """What only grows: counters and histograms."""
    families = COUNTERS | HISTOGRAMS
    found: dict[str, Sums] = {metric: defaultdict(dict) for metric in families}
    # A range: rows are written past the ORM, and SQLite compares the text of their time.
    rows = MetricBucket.objects.filter(
        metric__in=families, minute__lt=EPOCH + timedelta(minutes=1), resolution=Resolution.EVER
    ).order_by()
    columns = ("metric", "site", "label", "bucket", "n", "total")
    for metric, site, label, bucket, n, total in rows.values_list(*columns).iterator():
        cells = found[metric][families[metric].values(site, label)]
        before = cells.get(bucket, (0, 0.0))
        cells[bucket] = (before[0] + n, before[1] + total)
    for metric, family in COUNTERS.items():
        counter = CounterMetricFamily(family.name, family.text, labels=family.labels())
        for labels, cells in sorted(found[metric].items()):
            counter.add_metric(labels, cells.get(COUNT_BUCKET, (0, 0.0))[0])
        yield counter
    for metric, family in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels())
        for labels, cells in sorted(found[metric].items()):
            total = sum(total for _, total in cells.values())
            histogram.add_metric(labels, _cumulative(cells, family.edges), total)
        yield histogram


def _cumulative(
    cells: dict[int, tuple[int, float]], edges: tuple[float, ...]
) -> list[tuple[str, float]]:
    counts = [0] * (len(edges) + 1)
    for bucket, (n, _) in cells.items():
        counts[bisect_left(edges, value_of(bucket))] += n
    upto, found = 0, []
    for edge, n in zip((*edges, math.inf), counts, strict=True):
        upto += n
        found.append(("+Inf" if math.isinf(edge) else str(edge), float(upto)))
    return found


def _of_work() -> Iterator[Metric]:
    """What is so at this moment."""
    at = clock.database_now()
    paused = Subquery(AdmissionLimits.objects.filter(pk=1).values("paused"))
    known = Site.objects.order_by("slug").defer("recipe").annotate(all_are_paused=paused)
    sites: list[Any] = list(known)
    running = LoginAttempt.objects.filter(outcome=Outcome.OPEN).order_by()
    queued = TokenRequest.objects.filter(status=Status.QUEUED).order_by()
    for name, help_text, rows in (
        ("latchkey_logins_in_flight", "Logins being made.", running),
        ("latchkey_requests_queued", "Requests that wait.", queued),
    ):
        counts = dict(rows.values_list("site__slug").annotate(Count("pk")))
        gauge = GaugeMetricFamily(name, help_text, labels=["site"])
        for site in sites:
            gauge.add_metric([site.slug], counts.get(site.slug, 0))
        yield gauge
    gauge = GaugeMetricFamily(
        "latchkey_site_open", "Whether logins may be made there now.", labels=["site"]
    )
    for site in sites:
        may = site.enabled and not site.all_are_paused and hours.is_open(site, at=at)
        gauge.add_metric([site.slug], may)
    yield gauge
    alive = WorkerProcess.objects.filter(ended_at=None, lease_until__gt=at)
    workers = alive.order_by().values_list("cluster").annotate(Count("pk"))
    gauge = GaugeMetricFamily("latchkey_workers", "Worker processes at work.", labels=["cluster"])
    for cluster, count in workers:
        gauge.add_metric([cluster], count)
    yield gauge
    rate, reads = statistics.hits()
    yield GaugeMetricFamily("latchkey_cache_reads", "Cache reads of five minutes.", value=reads)
    gauge = GaugeMetricFamily(
        "latchkey_cache_hit_ratio", "Cache reads of five minutes that found something."
    )
    if rate is not None:
        gauge.add_metric([], rate)
    yield gauge


def _of_machines() -> Iterator[Metric]:
    """The newest sample of every process of the last half minute."""
    newest = resources.fresh(clock.now())
    hosts = {row.host: row for row in sorted(newest, key=lambda row: row.at)}
    for name, help_text, column in (
        ("latchkey_host_cpu_ratio", "Share of the host's processors in use.", "cpu_percent"),
        ("latchkey_host_memory_ratio", "Share of the host's memory in use.", "memory_percent"),
    ):
        gauge = GaugeMetricFamily(name, help_text, labels=["host"])
        for host, row in sorted(hosts.items()):
            gauge.add_metric([host], getattr(row, column) / 100)
        yield gauge
    memory: Counter[tuple[str, str]] = Counter()
    for row in newest:
        memory[row.host, row.role] += row.rss_bytes
    gauge = GaugeMetricFamily(
        "latchkey_resident_memory_bytes", "Memory of our processes.", labels=["host", "role"]
    )
    for (host, role), size in sorted(memory.items()):
        gauge.add_metric([host, role], size)
    yield gauge
    gauge = GaugeMetricFamily(
        "latchkey_cache_degraded_processes", "Processes for which the shared cache is not well."
    )
    if newest:
        gauge.add_metric([], sum(row.redis == "degraded" for row in newest))
    yield gauge
    shared = [row for row in newest if row.database_connections is not None]
    gauge = GaugeMetricFamily(
        "latchkey_database_connections", "Connections to our database.", labels=[]
    )
    if shared:
        gauge.add_metric([], max(shared, key=lambda row: row.at).database_connections or 0)
    yield gauge
