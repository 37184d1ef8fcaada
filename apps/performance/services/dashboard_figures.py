"""The large numbers of the dashboard: of the same span as its charts, or of this moment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apps.common import events
from apps.history.contracts import HistoryStatus
from apps.performance import selectors
from apps.performance.models import Alert
from apps.performance.models.alerts import AlertMetric, Severity
from apps.performance.services.dashboard_measures import Measures
from apps.tokens.models import AdmissionLimits

NOTHING: Final = "–"
_TONES: Final = {Severity.LOW: "warn", Severity.MEDIUM: "warn", Severity.HIGH: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number in large type. `page` is the model whose list it is about, `query` its filter."""

    title: str
    value: str
    note: str
    page: str
    query: str = ""
    tone: str = ""


def figures(
    measures: Measures, alerts: Sequence[Alert], *, at: datetime, may: Callable[[str], bool]
) -> list[Figure]:
    """Return all figures in their order, with four queries; a bad one has the tone of its alert."""
    found = [
        _success(measures, alerts),
        _login_time(measures, alerts),
        *_now(alerts, at=at),
        _hit_rate(measures, alerts),
        _hand_outs(measures),
    ]
    return [*found, _open_alerts(alerts)] if may("performance.view_alert") else found


def percent(share: float) -> str:
    """Return a share of 1 as people write it."""
    return f"{100 * share:.1f} %" if share < 1 else "100 %"


def seconds(value: float) -> str:
    """Return a duration as people write it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def _success(measures: Measures, alerts: Iterable[Alert]) -> Figure:
    ended = measures.count(events.ACQUISITIONS)
    ended.pop(events.CANCELLED, None)
    total, good = sum(ended.values()), ended.get(HistoryStatus.SUCCESS, 0)
    return Figure(
        title="Success rate",
        value=percent(good / total) if total else NOTHING,
        note=f"{good:,} of {total:,} requests" if total else "no request ended",
        page="history.tokenacquisitionhistory",
        tone=_tone(alerts, AlertMetric.SUCCESS_RATE, AlertMetric.TIMEOUT_RATE),
    )


def _login_time(measures: Measures, alerts: Iterable[Alert]) -> Figure:
    logins = measures.all_logins()
    value, note = NOTHING, "no login was made"
    if logins.n:
        median, p95 = logins.quantiles((0.50, 0.95))
        value, note = seconds(median), f"median; p95 {seconds(p95)}, {logins.n:,} logins"
    return Figure(
        title="Login time",
        value=value,
        note=note,
        page="tokens.loginattempt",
        tone=_tone(alerts, AlertMetric.MEAN_TOTAL_S),
    )


def _now(alerts: Iterable[Alert], *, at: datetime) -> list[Figure]:
    limit = AdmissionLimits.current().max_concurrent
    queued, oldest_s = selectors.queue(at=at)
    tone = _tone(alerts, AlertMetric.IN_FLIGHT_AND_WAITING)
    return [
        Figure(
            title="Logging in",
            value=f"{selectors.in_flight():,}",
            note=f"of at most {limit}, now",
            page="tokens.loginattempt",
            query="outcome__exact=",
            tone=tone,
        ),
        Figure(
            title="Waiting",
            value=f"{queued:,}",
            note="nobody waits" if oldest_s is None else f"the oldest for {seconds(oldest_s)}",
            page="tokens.tokenrequest",
            query="status__exact=queued",
            tone=tone,
        ),
    ]


def _hit_rate(measures: Measures, alerts: Iterable[Alert]) -> Figure:
    reads, answered = sum(measures.reads), sum(measures.answered)
    return Figure(
        title="Cache hit rate",
        value=percent(answered / reads) if reads else NOTHING,
        note=f"of {reads:,} reads" if reads else "nothing was read",
        page="caching.cacheusage",
        tone=_tone(alerts, AlertMetric.CACHE_HIT_RATE),
    )


def _hand_outs(measures: Measures) -> Figure:
    handed = measures.count(events.HAND_OUTS)
    total, cached = sum(handed.values()), handed.get("cached", 0)
    return Figure(
        title="Handed out",
        value=f"{total:,}",
        note=f"{cached:,} without a login" if total else "nobody asked for a token",
        page="access.auditentry",
    )


def _open_alerts(alerts: Sequence[Alert]) -> Figure:
    worst = max((alert.severity for alert in alerts), default=None)
    return Figure(
        title="Open alerts",
        value=f"{len(alerts):,}",
        note="all is well" if worst is None else f"the worst is {Severity(worst).label}",
        page="performance.alert",
        query="resolved_at__isempty=1",
        tone="good" if worst is None else _TONES[Severity(worst)],
    )


def _tone(alerts: Iterable[Alert], *metrics: AlertMetric) -> str:
    """Return how bad the worst open alert over these metrics makes a figure; '' without one."""
    worst = max((alert.severity for alert in alerts if alert.metric in metrics), default=None)
    return "" if worst is None else _TONES[Severity(worst)]
