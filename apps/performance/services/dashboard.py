"""Everything the dashboard shows, read from the shared rows: right whoever of the cluster answers.

The number of queries does not depend on how many sites, accounts or hosts there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apps.common import clock
from apps.performance import selectors
from apps.performance.contracts import RecentError
from apps.performance.models import Alert
from apps.performance.services import (
    dashboard_charts,
    dashboard_figures,
    dashboard_hosts,
    dashboard_measures,
    dashboard_sites,
)
from apps.performance.services.dashboard_charts import Chart
from apps.performance.services.dashboard_figures import Figure
from apps.performance.services.dashboard_hosts import Host
from apps.performance.services.dashboard_measures import Span
from apps.performance.services.dashboard_sites import SiteLine

MOST_SITES: Final = 50
MOST_ALERTS: Final = 10
MOST_FAILURES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How far the page looks back, in steps of what length, and how often it looks again."""

    name: str
    title: str
    seconds: int
    step_s: int
    refresh_s: int


# A longer window changes more slowly and costs more to read.
WINDOWS: Final = (
    Window(name="1h", title="Last hour", seconds=3_600, step_s=60, refresh_s=5),
    Window(name="6h", title="Last 6 hours", seconds=21_600, step_s=300, refresh_s=15),
    Window(name="24h", title="Last 24 hours", seconds=86_400, step_s=900, refresh_s=60),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The whole page; what a person may not see is empty."""

    at: datetime
    window: Window
    span: Span
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    alerts: tuple[Alert, ...] = ()
    sites: tuple[SiteLine, ...] = ()
    more_sites: int = 0
    hosts: tuple[Host, ...] = ()
    failures: tuple[RecentError, ...] = ()


def window(name: str) -> Window:
    """Return the window of this name; the shortest for any other."""
    return next((one for one in WINDOWS if one.name == name), WINDOWS[0])


def read(chosen: Window, *, may: Callable[[str], bool]) -> Dashboard:
    """Return the page for somebody who `may` view what these permissions say."""
    at = clock.now()
    span = Span.ending(at, window_s=chosen.seconds, step_s=chosen.step_s)
    alerts = _alerts() if may("performance.view_alert") else []
    figures: list[Figure] = []
    charts: list[Chart] = []
    if may("performance.view_metricbucket"):
        measures = dashboard_measures.read(span)
        charts = dashboard_charts.charts(measures)
        figures = dashboard_figures.figures(measures, alerts, at=at, may=may)
    found = dashboard_sites.sites(since=span.start, at=at) if may("tokens.view_site") else []
    hosts = dashboard_hosts.hosts(at) if may("performance.view_systemsample") else []
    failed = may("tokens.view_loginattempt")
    return Dashboard(
        at=at,
        window=chosen,
        span=span,
        figures=tuple(figures),
        charts=tuple(charts),
        alerts=tuple(alerts[:MOST_ALERTS]),
        sites=tuple(found[:MOST_SITES]),
        more_sites=max(0, len(found) - MOST_SITES),
        hosts=tuple(hosts),
        failures=tuple(selectors.recent_errors(limit=MOST_FAILURES)) if failed else (),
    )


def _alerts() -> list[Alert]:
    return list(Alert.objects.unresolved().order_by("-severity", "-opened_at"))
