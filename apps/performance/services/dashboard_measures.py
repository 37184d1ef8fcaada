"""What was measured in a span, added up by the database in steps, so that little has to be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import F, Func, IntegerField, Max, Min, Sum
from django.utils import timezone

from apps.caching import services as cache
from apps.common import clock, events
from apps.common.scale import COUNT_BUCKET
from apps.performance import selectors
from apps.performance.services.distributions import Tally, merged

# Counts and means need no buckets.
_PLAIN: Final = (
    events.ACQUISITIONS, events.HAND_OUTS, events.CPU, events.MEMORY, events.RSS_BYTES,
)  # fmt: skip

Values = list[float | None]
Counts = Mapping[int, int]
Means = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that is looked at: `steps` of `step_s` seconds, the last one still running."""

    start: datetime
    step_s: int
    steps: int

    @classmethod
    def ending(cls, at: datetime, *, window_s: int, step_s: int) -> "Span":
        """Return the span whose last step holds `at`; steps begin at whole multiples."""
        steps = window_s // step_s
        last = int(at.timestamp()) // step_s * step_s
        start = datetime.fromtimestamp(last - (steps - 1) * step_s, tz=at.tzinfo)
        return cls(start=start, step_s=step_s, steps=steps)

    @property
    def end(self) -> datetime:
        """Return the end of the last step."""
        return self.start + timedelta(seconds=self.steps * self.step_s)

    def place(self, at: datetime) -> int:
        """Return the number of the step that holds a moment."""
        return int((at - self.start).total_seconds() // self.step_s)

    def labels(self) -> list[str]:
        """Return the beginning of each step, in the time zone of the pages."""
        begins = (
            self.start + timedelta(seconds=number * self.step_s) for number in range(self.steps)
        )
        return [timezone.localtime(begin).strftime("%H:%M") for begin in begins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All sites together, by the number of the step.

    `counts` and `means` are by metric and label; `logins` are durations in seconds; `reads` are
    those of the cache, `answered` the part of them that a layer has answered.
    """

    span: Span
    counts: Mapping[str, Mapping[str, Counts]]
    means: Mapping[str, Mapping[str, Means]]
    logins: Mapping[int, Tally]
    reads: list[int]
    answered: list[int]

    def count(self, metric: str) -> dict[str, int]:
        """Return how often each label was counted in the whole span."""
        return {label: sum(steps.values()) for label, steps in self.counts.get(metric, {}).items()}

    def all_logins(self) -> Tally:
        """Return the durations of the whole span."""
        return merged(self.logins.values())


class Step(Func):
    """The number of the step of a span that a column of moments lies in, for the database."""

    output_field = IntegerField()

    def __init__(self, column: str, span: Span) -> None:
        super().__init__(F(column))
        self.step_s = int(span.step_s)
        self.first = int(span.start.timestamp()) // self.step_s

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        epoch = "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)"
        return self._counted(epoch, compiler, connection, **more)

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        epoch = "floor(extract(epoch FROM %(expressions)s))::bigint"
        return self._counted(epoch, compiler, connection, **more)

    def _counted(self, epoch: str, compiler: Any, connection: Any, **more: Any) -> Any:
        template = f"({epoch} / {self.step_s} - {self.first})"
        return self.as_sql(compiler, connection, template=template, **more)


def read(span: Span) -> Measures:
    """Read what the charts and figures are made of, with four queries."""
    shown = selectors.shown_since(at=clock.now())
    since = span.start if shown is None else max(span.start, shown)
    counts, means = _plain(span, since)
    reads, answered = _cache(span, since)
    return Measures(
        span=span,
        counts=counts,
        means=means,
        logins=_logins(span, since),
        reads=reads,
        answered=answered,
    )


def _plain(span: Span, since: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = selectors.rows(_PLAIN, since=since, until=span.end).filter(n__gt=0)
    counts: dict[str, dict[str, dict[int, int]]] = {}
    means: dict[str, dict[str, dict[int, float]]] = {}
    steps = rows.annotate(step=Step("minute", span)).values_list("metric", "label", "step")
    for metric, label, step, n, total in steps.annotate(Sum("n"), Sum("total")):
        counts.setdefault(metric, {}).setdefault(label, {})[step] = n
        means.setdefault(metric, {}).setdefault(label, {})[step] = total / n
    return counts, means


def _logins(span: Span, since: datetime) -> dict[int, Tally]:
    rows = selectors.rows([events.LOGIN_S], since=since, until=span.end)
    rows = rows.exclude(bucket=COUNT_BUCKET).annotate(step=Step("minute", span))
    found: dict[int, Tally] = {}
    summed = rows.values_list("step", "bucket").annotate(
        Sum("n"), Sum("total"), Min("min"), Max("max")
    )
    for step, *row in summed:
        found.setdefault(step, Tally()).add(*row)
    return found


def _cache(span: Span, since: datetime) -> tuple[list[int], list[int]]:
    reads, answered = [0] * span.steps, [0] * span.steps
    for minute, (asked, hits) in cache.reads_by_minute(since).items():
        if 0 <= (step := span.place(minute)) < span.steps:
            reads[step] += asked
            answered[step] += min(hits, asked)
    return reads, answered
