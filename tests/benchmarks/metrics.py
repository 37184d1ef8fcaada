"""The recorder: time a record and memory over ten million, against a counter and Prometheus."""

import gc
import sys
import threading
import time
import tracemalloc

RECORD_GOAL_US = 3.0
SPAN_GOAL_US = 1.0
RECORDS = 10_000_000
STEPS = 5
GROWTH_GOAL_KB = 64


def main() -> int:
    """Print the figures; return the number of missed goals."""
    return _records() + _decorators() + _spans() + _flushes() + _memory()


def _records() -> int:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    from apps.common.measure import Recorder
    from tests.benchmarks.harness import compare

    recorder, lock, plain = Recorder(), threading.Lock(), {"x": 0}
    registry = CollectorRegistry()
    buckets = [0.001 * 2**power for power in range(15)]
    histogram = Histogram("h", "-", ["site"], registry=registry, buckets=buckets)
    counter = Counter("c", "-", ["site"], registry=registry)
    bound = histogram.labels("court")

    def increment() -> None:
        with lock:
            plain["x"] += 1

    rows = compare(
        {
            "a dict and a lock": increment,
            "count": lambda: recorder.count("c", site="court", label="ok"),
            "observe": lambda: recorder.observe("h", 0.123, site="court"),
            "prometheus_client Counter.labels().inc": lambda: counter.labels("court").inc(),
            "prometheus_client Histogram.labels().observe": (
                lambda: histogram.labels("court").observe(0.123)
            ),
            "prometheus_client Histogram.observe, bound": lambda: bound.observe(0.123),
        },
        floor="a dict and a lock",
    )
    missed = 0
    for row in rows:
        if row.name in {"count", "observe"}:
            missed += _goal(f"{row.name}: µs a record", row.seconds * 1e6, RECORD_GOAL_US)
    return missed


def _spans() -> int:
    from apps.common import tracing
    from tests.benchmarks.harness import compare

    facts = {"latchkey.site": "court"}

    def traced() -> None:
        with tracing.span("x", facts) as span:
            span.set("a", 1)

    print()
    rows = compare(
        {
            "a dict": lambda: {"latchkey.site": "court"},
            "a span, off": traced,
            "the trace of a log line, off": tracing.current_trace_id,
        },
        floor="a dict",
    )
    return _goal("a span that is off: µs", rows[1].seconds * 1e6, SPAN_GOAL_US)


def _decorators() -> int:
    from apps.common.monitoring import monitor_performance
    from tests.benchmarks.harness import compare

    def plain() -> None:
        pass

    async def coroutine() -> None:
        pass

    monitored = monitor_performance("f")(plain)
    monitored_coroutine = monitor_performance("g")(coroutine)
    print()
    rows = compare(
        {
            "a function": plain,
            "a monitored function": monitored,
            "a coroutine": lambda: _finish(coroutine()),
            "a monitored coroutine": lambda: _finish(monitored_coroutine()),
        },
        floor="a function",
    )
    cost_us = (rows[1].seconds - rows[0].seconds) * 1e6
    # It records three things: a duration, a call, and what the clock says twice.
    return _goal("monitor_performance: µs a call", cost_us, 3 * RECORD_GOAL_US)


def _finish(coroutine) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return


def _flushes() -> int:
    """Time to hand a busy process' rows on, without the database."""
    from apps.common.measure import Recorder

    recorder = Recorder()
    recorder.set_sink(lambda rows: None)
    for number in range(2_000):
        recorder.observe("h", 0.001 * (number + 1), site=f"site-{number % 20}")
    began = time.perf_counter()
    rows = recorder.flush()
    print(
        f"\nflush of {rows} rows: {(time.perf_counter() - began) * 1e3:.1f} ms without a database"
    )
    return 0


def _memory() -> int:
    """Ten million records of many series, flushed now and then as the thread would."""
    from apps.common.measure import Recorder

    recorder = Recorder()
    recorder.set_sink(lambda rows: None)
    values = [0.0001 * 1.37**power for power in range(40)]
    sites = [f"site-{number}" for number in range(20)]
    sizes = []
    part = RECORDS // STEPS // (len(values) * len(sites)) // 10
    began = time.perf_counter()
    records = 0
    for step in range(STEPS + 1):
        for _ in range(10):
            for _ in range(part):
                for site in sites:
                    for value in values:
                        recorder.observe("h", value, site=site)
            records += part * len(values) * len(sites)
            recorder.flush()
        gc.collect()
        if step == 0:
            tracemalloc.start()  # the first step fills what is filled once
        else:
            sizes.append(tracemalloc.get_traced_memory()[0] / 1024)
            tracemalloc.reset_peak()
        if step == 0:
            took_us = (time.perf_counter() - began) / records * 1e6
    tracemalloc.stop()
    print(f"\n{records:,} records of 800 cells; {took_us:.2f} µs each with flushes")
    print("traced memory after each two million, kB:", [round(size) for size in sizes])
    return _goal("growth from the first to the last, kB", sizes[-1] - sizes[0], GROWTH_GOAL_KB)


def _goal(what: str, found: float, goal: float) -> int:
    met = found <= goal
    print(f"{what}: {found:.2f} (goal: at most {goal:g}) {'pass' if met else 'MISS'}")
    return not met


if __name__ == "__main__":
    sys.exit(main())
