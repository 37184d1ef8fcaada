"""Statistics, lists, an export and clean-up of a million records, on SQLite and on PostgreSQL.

python -m tests.benchmarks.history [--rows N] [--database sqlite|postgres] [--only NAME]
"""

import argparse
import itertools
import json
import math
import multiprocessing
import os
import statistics as arithmetic
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import processor_clock

LIMIT_MS = {"sqlite": 250, "postgres": 50}
STATISTICS_P95_MS = 100
LEAST_RATIO = 50
EXPORTED_ROWS, EXPORT_GROWS_MB = 130_000, 10
WRITES_PER_S = 50


def main(arguments: Sequence[str] = ()) -> int:
    """Run the benchmark on both databases; print one table each; return 0 if all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", choices=sorted(LIMIT_MS))
    parser.add_argument("--only", choices=["statistics", "lists", "export", "cleanup"])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(list(arguments))
    if options.child:
        return _measure(options.child, options.rows, options.only)
    databases = [options.database] if options.database else ["sqlite", "postgres"]
    return max(_start(name, options.rows, options.only) for name in databases)


def _start(database: str, rows: int, only: str | None) -> int:
    """Run one database in a process of its own: Django reads its settings once."""
    from config.embedded import embedded_postgres

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="latchkey-bench-"))
        url = f"sqlite:///{Path(folder) / 'bench.sqlite3'}"
        if database == "postgres":
            # As in production: an insert waits for the disk, and beside it so does the archive.
            url = stack.enter_context(embedded_postgres(durable=True))
        environment = os.environ | {
            "DATABASE_URL": url,
            "REDIS_URL": "",
            "LATCHKEY_DATA_DIR": folder,
            "DJANGO_SETTINGS_MODULE": os.environ.get(
                "DJANGO_SETTINGS_MODULE", "config.settings.test"
            ),
        }
        command = [sys.executable, "-m", "tests.benchmarks.history", "--child", database]
        command += ["--rows", str(rows), *(["--only", only] if only else [])]
        return subprocess.run(command, env=environment, check=False).returncode


def _measure(database: str, rows: int, only: str | None) -> int:
    import django

    django.setup()
    from django.core.management import call_command

    from apps.common.clock import now
    from apps.history import services
    from tests.history import year

    call_command("migrate", verbosity=0)
    end = now()
    _timed("filled", lambda: year.fill(rows, end=end), database, rows)
    _timed("rolled up", lambda: services.roll_up(budget_s=600), database, rows)
    _settle(database)
    parts: dict[str, Callable[[], bool]] = {
        "statistics": lambda: _statistics(database, rows, end),
        "lists": lambda: _lists(database, end),
        "export": lambda: _export(database),
        "cleanup": lambda: _cleanup(database, rows),
    }
    met = [part() for name, part in parts.items() if only in {None, name}]
    return 0 if all(met) else 1


def _settle(database: str) -> None:
    """Write the year to its place, so that the disk is not still at it when inserts are timed."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "CHECKPOINT" if database == "postgres" else "PRAGMA wal_checkpoint(TRUNCATE)"
        )
    os.sync()


def _timed(what: str, work: Callable[[], Any], database: str, rows: int) -> None:
    started = time.perf_counter()
    work()
    print(f"{database}: {what} {rows:,} rows in {time.perf_counter() - started:.1f} s", flush=True)


# Statistics --------------------------------------------------------------------------------


def _statistics(database: str, rows: int, end: Any) -> bool:
    from zoneinfo import ZoneInfo

    from apps.history import services
    from apps.history.contracts import Grouping, Window

    def window(days: float, **changes: Any) -> Window:
        return Window(start=end - timedelta(days=days), end=end, **changes)

    shanghai = ZoneInfo("Asia/Shanghai")
    cases = {
        "a year": window(365),
        "a year, Shanghai": window(365, zone=shanghai),
        "a year, one site": window(365, zone=shanghai, site="site-00"),
        "a year, one account": window(365, account="account-03-1"),
        "30 days": window(30, zone=shanghai),
        "7 days by hour": window(7, groups=frozenset({Grouping.HOUR})),
        "a year by hour": window(365, groups=frozenset({Grouping.HOUR})),
        "a year, Kolkata": window(365, zone=ZoneInfo("Asia/Kolkata")),
    }
    met, used_s = True, processor_clock()
    for name, asked in cases.items():
        times, used = [], []
        for _ in range(40):
            started, before = time.perf_counter(), used_s()
            answer = services.statistics(asked)
            times.append((time.perf_counter() - started) * 1000)
            used.append((used_s() - before) * 1000)
        p50, p95 = arithmetic.median(times), arithmetic.quantiles(times, n=20)[-1]
        total = answer.summary.total
        print(
            f"{database}: {name:22} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  "
            f"processor {arithmetic.median(used):6.1f} ms  {total:,}, {_load()}",
            flush=True,
        )
        if name == "a year":
            plain_ms = _plain(asked, answer)
            print(f"{database}: plain aggregates {plain_ms:,.0f} ms: {plain_ms / p50:.0f} times")
            met &= p95 < STATISTICS_P95_MS and plain_ms / p50 >= LEAST_RATIO
    return met


def _plain(window: Any, answer: Any) -> float:
    """One query for each figure over the same rows; must agree with the answer. Return ms.

    Breakdowns are given an advantage: one query brings all figures of a breakdown.
    """
    from django.db.models import Avg, Count, F, Max, Min, Q, Sum
    from django.db.models.functions import TruncDay

    from apps.history.contracts import Grouping
    from apps.history.models import TokenAcquisitionHistory

    started = time.perf_counter()
    rows = TokenAcquisitionHistory.objects.finished_between(window.start, window.end).order_by()
    total = rows.count()
    success = rows.filter(status="success").count()
    figures = {
        f"{name.__name__.lower()}_{column}": rows.aggregate(value=name(column))["value"]
        for name, column in (
            (Sum, "attempts"),
            (Sum, "retries"),
            (Avg, "total_ms"),
            (Min, "total_ms"),
            (Max, "total_ms"),
            (Count, "login_ms"),
            (Avg, "login_ms"),
            (Min, "login_ms"),
            (Max, "login_ms"),
        )
    }
    true = []
    for column, count in (("total_ms", total), ("login_ms", figures["count_login_ms"])):
        known = rows.exclude(**{column: None}).order_by(column).values_list(column, flat=True)
        true += [known[max(0, math.ceil(count * share) - 1)] for share in (0.5, 0.95, 0.99)]
    every = {
        "n": Count("*"),
        "ok": Count("pk", filter=Q(status="success")),
        "mean": Avg("total_ms"),
        "low": Min("total_ms"),
        "high": Max("total_ms"),
        "login": Avg("login_ms"),
    }
    day = TruncDay("finished_at", tzinfo=window.zone)
    keys = {"status": F("status"), "site": F("site"), "account": F("account"), "day": day}
    grouped = {
        name: {row["key"]: row["n"] for row in rows.values(key=key).annotate(**every)}
        for name, key in keys.items()
    }
    took_ms = (time.perf_counter() - started) * 1000
    grouped["day"] = {key.date().isoformat(): n for key, n in grouped["day"].items()}
    assert (answer.summary.total, answer.summary.success) == (total, success)
    assert answer.summary.attempts == figures["sum_attempts"]
    assert abs(answer.summary.total_s_mean * 1000 - float(figures["avg_total_ms"])) < 0.01
    assert abs(answer.summary.login_s_mean * 1000 - float(figures["avg_login_ms"])) < 0.01
    for name, counts in grouped.items():
        given = {group.key: group.figures.total for group in answer.groups[Grouping(name)]}
        assert given == counts, name
    found = (*_three(answer.total_percentiles), *_three(answer.login_percentiles))
    for exact, given in zip(true, found, strict=True):
        assert abs(given * 1000 / exact - 1) <= 0.025, (exact, given)
    return took_ms


def _three(values: Any) -> tuple[float, float, float]:
    return values.p50_s, values.p95_s, values.p99_s


# Lists and an export -----------------------------------------------------------------------


def _lists(database: str, end: Any) -> bool:
    """Ask for the first page and the count, as the API answers them; no goal is missed by it."""
    from rest_framework.test import APIRequestFactory

    from apps.history.models import TokenAcquisitionHistory
    from apps.history.viewsets import HistoryViewSet

    seldom = TokenAcquisitionHistory.objects.order_by("finished_at")[0]
    month_ago = (end - timedelta(days=30)).isoformat()
    cases: dict[str, dict[str, str]] = {
        "no filter": {},
        "a busy site": {"site": "site-00"},
        "an account": {"account": "account-03-1"},
        "a status": {"status": "credential_error"},
        "a site's failures": {"site": "site-19", "status": "captcha_error"},
        "a code": {"error_code": "timeout"},
        "one request": {"request_id": str(seldom.request_id)},
        "before a month ago": {"finished_before": month_ago},
        "a part of a text": {"search": "unexpected"},
        "a part of no text": {"search": "nowhere to be found"},
    }
    openly: dict[str, Any] = dict.fromkeys(
        ("authentication_classes", "permission_classes", "throttle_classes"), ()
    )
    view, ask = HistoryViewSet.as_view({"get": "list"}, **openly), APIRequestFactory().get
    for name, query in cases.items():
        times = []
        for _ in range(20):
            started = time.perf_counter()
            answer = view(ask("/", query, SERVER_NAME="localhost")).render()
            times.append((time.perf_counter() - started) * 1000)
        p50, p95 = arithmetic.median(times), arithmetic.quantiles(times, n=20)[-1]
        print(
            f"{database}: list, {name:18} p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  "
            f"{answer.data['count']:,}, {_load()}",
            flush=True,
        )
    return True


def _export(database: str) -> bool:
    """Export up to EXPORTED_ROWS and tell how far memory grows past that of the first page."""
    import psutil

    from apps.history.export import CHUNK, lines
    from apps.history.models import TokenAcquisitionHistory

    def resident() -> int:
        used: int = psutil.Process().memory_info().rss
        return used

    pieces = lines(TokenAcquisitionHistory.objects.all(), "jsonl")
    next(pieces)
    first, peak, exported = resident(), 0, CHUNK
    started = time.perf_counter()
    for piece in itertools.islice(pieces, EXPORTED_ROWS // CHUNK - 1):
        exported += piece.count(b"\n")
        peak = max(peak, resident())
    grew_mb = (peak - first) / 1e6
    print(
        f"{database}: exported {exported:,} rows in {time.perf_counter() - started:.1f} s, "
        f"memory grew by {grew_mb:.1f} MB, {_load()}"
    )
    return grew_mb < EXPORT_GROWS_MB


# Clean-up ----------------------------------------------------------------------------------


def _cleanup(database: str, rows: int) -> bool:
    """Clean half of the records up while another process records 50 a second.

    A third records as many into a database of its own that nobody cleans up: what slows the
    machine slows both, and the difference is what the clean-up costs.
    """
    from django.db import connections

    from apps.history import services

    connections.close_all()
    writer = _Writer(os.environ["DATABASE_URL"])
    control = _Writer(_another(database))
    time.sleep(2)
    archive = tempfile.mkdtemp(prefix="archive-", dir=os.environ["LATCHKEY_DATA_DIR"])
    started = time.perf_counter()
    report = services.cleanup(182, archive_to=Path(archive))
    took_s = time.perf_counter() - started
    print(
        f"{database}: cleaned {report.deleted:,} up in {took_s:.1f} s "
        f"({report.deleted / took_s:,.0f}/s, {len(report.partitions_dropped)} partitions dropped, "
        f"longest transaction {report.longest_batch_s * 1000:.0f} ms), {_load()}"
    )
    worst_ms = _tell(f"{database}: inserts meanwhile", writer.stop())
    _tell(f"{database}: the same where nobody cleans up", control.stop())
    return report.deleted > rows * 0.45 and worst_ms <= LIMIT_MS[database]


def _tell(what: str, times: list[float]) -> float:
    worst, p99 = max(times), sorted(times)[int(len(times) * 0.99)]
    print(
        f"{what}: {len(times)}, p50 {arithmetic.median(times):.1f} ms, p99 {p99:.1f} ms, "
        f"worst {worst:.1f} ms"
    )
    return worst


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _another(database: str) -> str:
    """Return the URL of an empty database beside the one of the benchmark."""
    if database == "sqlite":
        return f"sqlite:///{Path(os.environ['LATCHKEY_DATA_DIR']) / 'control.sqlite3'}"
    import psycopg

    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE control")
    return url.rpartition("/")[0] + "/control"


class _Writer:
    """A process that records 50 acquisitions a second."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop, self._results = context.Event(), context.SimpleQueue()
        self._process = context.Process(target=_write_until, args=(self._stop, self._results, url))
        self._process.start()
        started_up = self._results.get()
        assert started_up == "ready"

    def stop(self) -> list[float]:
        """End it; return how long each insert took, in ms."""
        self._stop.set()
        times: list[float] = json.loads(self._results.get())
        self._process.join()
        return times


def _write_until(stop: Any, results: Any, url: str) -> None:
    os.environ["DATABASE_URL"] = url
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    from apps.common.clock import now
    from apps.history import services
    from tests.history.factories import make_record

    call_command("migrate", verbosity=0)
    services.record(make_record(finished_at=now()))
    results.put("ready")
    times: list[float] = []
    due, parent = time.monotonic(), os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        due += 1 / WRITES_PER_S
        record = make_record(finished_at=now())
        started = time.perf_counter()
        with transaction.atomic():
            services.record(record)
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(max(0.0, due - time.monotonic()))
    results.put(json.dumps(times))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
