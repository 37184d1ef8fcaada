"""What the dashboard plots: the shared rows, in steps, with gaps where nothing was measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from django.db.models import Max

from apps.common import events
from apps.history.contracts import HistoryStatus
from apps.performance.models import SystemSample
from apps.performance.services import sampling
from apps.performance.services.dashboard_measures import Means, Measures, Span, Step, Values

# More lines than this say nothing.
MOST_LINES: Final = 6
MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, or one colour of stacked bars; None where nothing was measured."""

    name: str
    values: Values
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart. `empty` is what is said where there is nothing to plot."""

    name: str
    title: str
    lines: tuple[Line, ...]
    empty: str
    unit: str = ""
    bars: bool = False
    most: float | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether nothing at all was measured."""
        return not any(value is not None for line in self.lines for value in line.values)


def charts(measures: Measures) -> list[Chart]:
    """Return all charts of the dashboard, in their order, with one query."""
    return [*_of_work(measures), *_of_machines(measures), *_of_supervisors(measures.span)]


def _of_work(measures: Measures) -> list[Chart]:
    return [
        Chart(
            name="requests",
            title="Requests that ended",
            bars=True,
            lines=_ended(measures),
            empty="No request ended in this time. Whoever asks for a token makes one.",
        ),
        Chart(
            name="login_time",
            title="Login time",
            unit="s",
            lines=_quantiles(measures),
            empty="No login was made in this time.",
        ),
        Chart(
            name="hit_rate",
            title="Cache hit rate",
            unit="%",
            most=100,
            lines=(Line(name="hit rate", values=_hit_rates(measures), tone="good"),),
            empty="Nothing was read through the cache in this time.",
        ),
    ]


def _of_machines(measures: Measures) -> list[Chart]:
    empty = "No process has reported in this time. Web and workers do so every 10 seconds."
    span, means = measures.span, measures.means
    return [
        Chart(
            name="cpu",
            title="Processor by host",
            unit="%",
            most=100,
            lines=_highest(means.get(events.CPU, {}), span),
            empty=empty,
        ),
        Chart(
            name="memory",
            title="Memory by host",
            unit="%",
            most=100,
            lines=_highest(means.get(events.MEMORY, {}), span),
            empty=empty,
        ),
        Chart(
            name="rss",
            title="Memory of a process, by its role",
            unit="MB",
            lines=_highest(means.get(events.RSS_BYTES, {}), span, scale=1 / MEGABYTE),
            empty=empty,
        ),
    ]


def _of_supervisors(span: Span) -> list[Chart]:
    """Return what supervisors look at for all; of each step the most that was seen."""
    names = ("in_flight", "queue_depth", "database_ms", "database_connections")
    rows = SystemSample.objects.filter(
        role=sampling.SUPERVISOR, at__gte=span.start, at__lt=span.end
    )
    steps = rows.order_by().annotate(step=Step("at", span)).values_list("step")
    seen: dict[str, Values] = {name: [None] * span.steps for name in names}
    for step, *values in steps.annotate(*map(Max, names)):
        for name, value in zip(names, values, strict=True):
            seen[name][step] = value
    empty = "No supervisor has reported in this time. Are workers running?"
    return [
        Chart(
            name="now",
            title="Logging in and waiting",
            lines=(
                Line(name="logging in", values=seen["in_flight"]),
                Line(name="waiting", values=seen["queue_depth"], tone="warn"),
            ),
            empty=empty,
        ),
        Chart(
            name="database",
            title="Answer of the database",
            unit="ms",
            lines=(Line(name="one query", values=seen["database_ms"]),),
            empty=empty,
        ),
        Chart(
            name="connections",
            title="Connections to the database",
            lines=(Line(name="connections", values=seen["database_connections"]),),
            empty="Nothing was counted: SQLite has no connections, or no supervisor has reported.",
        ),
    ]


def _ended(measures: Measures) -> tuple[Line, ...]:
    steps = range(measures.span.steps)
    labels = measures.counts.get(events.ACQUISITIONS, {})
    good = labels.get(HistoryStatus.SUCCESS, {})
    bad = [
        counts
        for label, counts in labels.items()
        if label not in (HistoryStatus.SUCCESS, events.CANCELLED)
    ]
    if not good and not bad:
        return ()
    return (
        Line(name="succeeded", values=[good.get(step, 0) for step in steps], tone="good"),
        Line(
            name="failed",
            values=[sum(counts.get(step, 0) for counts in bad) for step in steps],
            tone="bad",
        ),
    )


def _quantiles(measures: Measures) -> tuple[Line, ...]:
    found = [
        tally.quantiles((0.50, 0.95)) if (tally := measures.logins.get(step)) else (None, None)
        for step in range(measures.span.steps)
    ]
    return (
        Line(name="median", values=_rounded(pair[0] for pair in found)),
        Line(name="p95", values=_rounded(pair[1] for pair in found), tone="warn"),
    )


def _highest(labels: Mapping[str, Means], span: Span, *, scale: float = 1.0) -> tuple[Line, ...]:
    """Return one line a label, of those that have the highest values."""
    lines = [
        Line(
            name=label,
            values=_rounded(
                scale * steps[step] if step in steps else None for step in range(span.steps)
            ),
        )
        for label, steps in labels.items()
    ]
    highest = sorted(lines, key=lambda line: -max(value or 0 for value in line.values))
    return tuple(sorted(highest[:MOST_LINES], key=lambda line: line.name))


def _hit_rates(measures: Measures) -> Values:
    return _rounded(
        100 * answered / reads if reads else None
        for reads, answered in zip(measures.reads, measures.answered, strict=True)
    )


def _rounded(values: Iterable[float | None]) -> Values:
    return [None if value is None else round(value, 2) for value in values]
