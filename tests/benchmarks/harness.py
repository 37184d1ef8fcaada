"""Compare ways of doing the same thing, as ratios to a floor.

The cases take turns in every round: what slows the machine for a moment slows them all.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TARGET_S = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case: seconds a call (median of the rounds), its spread, and its ratio to the floor.

    `spread` is the distance of the quartiles divided by the median; above 0.2 the machine was
    too busy to believe a small difference.
    """

    name: str
    seconds: float
    spread: float
    ratio: float


def compare(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    floor: str | None = None,
    calls: int | None = None,
) -> list[Measurement]:
    """Measure all cases, print a table and return its rows in the order given.

    `floor` names the case that is 1.00 (default: the first). `calls` is how often a case is
    called a round; by default so often that it takes about 20 ms. A case that does much by
    itself (a whole load run) wants `calls=1`.
    """
    base = floor or next(iter(cases))
    if base not in cases:
        raise KeyError(f"{base} is not among the cases.")
    repeats = {name: calls or _calls_for(case) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            times[name].append(_seconds_a_call(case, repeats[name]))
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [
        Measurement(name, medians[name], _spread(times[name]), medians[name] / medians[base])
        for name in cases
    ]
    print(table(rows, floor=base))
    return rows


def processor_clock() -> Callable[[], float]:
    """Return a clock of the processor time of this process and of its database server process.

    In seconds. What other programs take of the machine stretches the wall's time, not this.
    """
    from django.db import connection

    if connection.vendor == "sqlite":
        return time.process_time
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    # Linux: nanoseconds on a processor. The time of `ps` would come in hundredths of a second.
    server = Path(f"/proc/{pid}/schedstat")
    return lambda: time.process_time() + int(server.read_text().split()[0]) / 1e9


def table(rows: list[Measurement], *, floor: str) -> str:
    """Return the rows as plain text."""
    width = max(len("case"), *(len(row.name) for row in rows))
    lines = [f"{'case':<{width}}  {'a call':>10}  {'ratio':>8}  {'spread':>6}"]
    for row in rows:
        mark = "  (floor)" if row.name == floor else ""
        lines.append(
            f"{row.name:<{width}}  {_readable(row.seconds):>10}  {row.ratio:>8.2f}"
            f"  {row.spread:>6.0%}{mark}"
        )
    return "\n".join(lines)


def _seconds_a_call(case: Callable[[], object], calls: int) -> float:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        began = time.perf_counter()
        for _ in range(calls):
            case()
        return (time.perf_counter() - began) / calls
    finally:
        if enabled:
            gc.enable()


def _calls_for(case: Callable[[], object]) -> int:
    case()  # the first call fills caches and imports
    calls = 1
    while (took_s := _seconds_a_call(case, calls) * calls) < TARGET_S / 2:
        calls = max(calls * 2, int(calls * TARGET_S / max(took_s, 1e-9) / 2))
    return calls


def _spread(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def _readable(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e9:.0f} ns"
