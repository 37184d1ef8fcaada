"""What the samples say: percentiles by kind and operation, and which bounds were missed."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.load.operations import BOUNDS_MS, WRITES_AT_ONCE, WRITES_BOUND_S, Kind

# Below this a 95th percentile is the slowest of a handful, and says nothing.
ENOUGH: Final = 20


class Sample(NamedTuple):
    """One request: its kind and operation, when it began (s), how long it took, what failed."""

    kind: str
    operation: str
    began_s: float
    took_ms: float
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of a kind, or of one operation of it. Milliseconds."""

    kind: str
    operation: str
    count: int
    p50: float
    p95: float
    p99: float
    longest: float
    bound: float

    @property
    def met(self) -> bool:
        return self.p95 < self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One part of a run: so many users, doing one thing each, or all at the same instant."""

    title: str
    users: int
    seconds: float
    kinds: list[Row]
    operations: list[Row]
    failures: dict[str, int]
    missed: list[str]
    others_cores: float = 0.0
    ours_cores: float = 0.0
    rounds_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return sum(row.count for row in self.kinds) / self.seconds if self.seconds else 0.0


def read(path: Path, *, skip_s: float = 0.0) -> list[Sample]:
    """Return the samples of a file, but those of the first seconds: there users still arrive."""
    found = []
    for line in path.read_text().splitlines():
        name, began_s, took_ms, failure = json.loads(line)
        kind, _, operation = name.partition("|")
        found.append(Sample(kind, operation, began_s, took_ms, failure))
    begun_s = min((one.began_s for one in found), default=0.0)
    return [one for one in found if one.began_s >= begun_s + skip_s]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the sorted values do not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def judge_mix(
    samples: Iterable[Sample], *, title: str, users: int, seconds: float, **used: float
) -> Level:
    """Judge users who do everything: by kind, and each operation that was done often enough."""
    samples = list(samples)
    kinds = _rows(samples, lambda one: (one.kind, ""))
    operations = _rows(samples, lambda one: (one.kind, one.operation))
    seen = {row.kind: row.count for row in kinds}
    missed = [
        f"{title}: {kind} was done {seen.get(kind, 0)} times; too few to judge"
        for kind in Kind
        if seen.get(kind, 0) < (1 if kind is Kind.ACQUIRE else ENOUGH)
    ]
    slow = [row for row in kinds if not row.met]
    slow += [row for row in operations if not row.met and row.count >= ENOUGH]
    missed += [f"{title}: {_told(row)}" for row in slow]
    failures = Counter(
        f"{one.kind} {one.operation}: {one.failure}" for one in samples if one.failure
    )
    if failures:
        missed.append(f"{title}: {failures.total()} requests failed")
    return Level(
        title=title,
        users=users,
        seconds=seconds,
        kinds=kinds,
        operations=operations,
        failures=dict(failures.most_common(10)),
        missed=missed,
        **used,
    )


def judge_writes(
    samples: Iterable[Sample],
    *,
    title: str,
    users: int,
    seconds: float,
    beat_s: float,
    **used: float,
) -> Level:
    """Judge users who all write at the same instant: a round is a beat's writes, all of them."""
    samples = list(samples)
    rounds: dict[int, list[Sample]] = defaultdict(list)
    for one in samples:
        rounds[round(one.began_s / beat_s - 0.25)].append(one)
    whole = [ones for ones in rounds.values() if len(ones) >= users]
    took_s = sorted(
        max(one.began_s + one.took_ms / 1000 for one in ones) - min(one.began_s for one in ones)
        for ones in whole
    )
    failures = Counter(one.failure for one in samples if one.failure)
    missed = []
    if users < WRITES_AT_ONCE or not took_s:
        missed.append(f"{title}: there was no round of {WRITES_AT_ONCE} writes")
    elif took_s[-1] >= WRITES_BOUND_S:
        missed.append(
            f"{title}: {users} writes took {took_s[-1]:.2f} s; the bound is {WRITES_BOUND_S:g} s"
        )
    if failures:
        missed.append(f"{title}: {failures.total()} requests failed")
    return Level(
        title=title,
        users=users,
        seconds=seconds,
        kinds=_rows(samples, lambda one: (one.kind, ""), bound=WRITES_BOUND_S * 1000),
        operations=[],
        failures=dict(failures.most_common(10)),
        missed=missed,
        rounds_s=took_s,
        **used,
    )


def as_json(levels: Sequence[Level], **about: Any) -> str:
    """Return everything as JSON, the verdict first."""
    missed = [text for level in levels for text in level.missed]
    whole = {"met": not missed, "missed": missed, **about}
    whole["levels"] = [asdict(level) | {"per_second": level.per_second} for level in levels]
    return json.dumps(whole, indent=2) + "\n"


def table(level: Level) -> str:
    """Return the figures of a level as text."""
    lines = [
        f"{level.title}: {level.per_second:.0f} operations a second; processors used:"
        f" {level.ours_cores:.1f} by this, {level.others_cores:.1f} by others",
        f"  {'':<34}{'n':>7}{'p50':>9}{'p95':>9}{'p99':>9}{'longest':>9}  bound of p95",
    ]
    lines += [_line(row, row.kind) for row in level.kinds]
    slow = sorted(level.operations, key=lambda row: row.p95 / row.bound, reverse=True)
    lines += ["  nearest to their bounds:"] if slow else []
    lines += [_line(row, f"  {row.kind} {row.operation}") for row in slow[:8]]
    if level.rounds_s:
        rounds = ", ".join(f"{one:.2f}" for one in level.rounds_s)
        lines.append(f"  all {level.users} written after {rounds} s (bound {WRITES_BOUND_S:g} s)")
    lines += [f"  failed {count} x {text}" for text, count in level.failures.items()]
    return "\n".join(lines)


def _line(row: Row, name: str) -> str:
    verdict = "" if row.met else "  MISSED" if row.count >= ENOUGH else "  (too few)"
    return (
        f"  {name[:33]:<34}{row.count:>7}{row.p50:>9.1f}{row.p95:>9.1f}{row.p99:>9.1f}"
        f"{row.longest:>9.1f}  {row.bound:g} ms{verdict}"
    )


def _told(row: Row) -> str:
    name = f"{row.kind} {row.operation}".strip()
    return f"{name} had a p95 of {row.p95:.0f} ms; the bound is {row.bound:g} ms"


def _rows(samples: list[Sample], group: Any, bound: float | None = None) -> list[Row]:
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in samples:
        taken[group(one)].append(one.took_ms)
    order = [str(kind) for kind in Kind]
    return [
        Row(
            kind=kind,
            operation=operation,
            count=len(values),
            p50=percentile(sorted(values), 0.5),
            p95=percentile(sorted(values), 0.95),
            p99=percentile(sorted(values), 0.99),
            longest=max(values),
            bound=bound or BOUNDS_MS[Kind(kind)],
        )
        for (kind, operation), values in sorted(
            taken.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]
