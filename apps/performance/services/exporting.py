"""Metrics as CSV or JSON, step by step: no query stays open while a slow client reads."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from apps.common.errors import ValidationFailed
from apps.performance.models import MetricBucket, Resolution
from apps.performance.services.distributions import Tally

FORMATS: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
COLUMNS: Final = (
    "at", "metric", "site", "label", "count", "mean", "min", "max", "p50", "p95", "p99",
)  # fmt: skip
MAX_STEPS: Final = 10_000
# A spreadsheet runs what starts like this as a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def lines(
    form: str, start: datetime, end: datetime, step_s: int, *, site: str | None, metric: str | None
) -> Iterator[bytes]:
    """Return the export in pieces; one record for each step, metric, site and label.

    Raises ValidationFailed at once for an empty span or more than 10,000 steps.
    """
    if end <= start or (end - start) / timedelta(seconds=step_s) > MAX_STEPS:
        raise ValidationFailed(f"An export ends after it begins, in {MAX_STEPS} steps at most.")
    records = _records(start, end, timedelta(seconds=step_s), site, metric)
    return _csv(records) if form == "csv" else _json(records)


def _records(
    start: datetime, end: datetime, step: timedelta, site: str | None, metric: str | None
) -> Iterator[list[dict[str, Any]]]:
    while start < end:
        yield _of_step(start, min(start + step, end), site, metric)
        start += step


def _of_step(
    start: datetime, end: datetime, site: str | None, metric: str | None
) -> list[dict[str, Any]]:
    ageing = [level for level in Resolution if level != Resolution.EVER]
    rows = MetricBucket.objects.filter(resolution__in=ageing, minute__gte=start, minute__lt=end)
    if site is not None:
        rows = rows.filter(site=site)
    if metric is not None:
        rows = rows.filter(metric=metric)
    tallies: dict[tuple[str, str, str], Tally] = defaultdict(Tally)
    columns = ("metric", "site", "label", "bucket", "n", "total", "min", "max")
    for name, of_site, label, *row in rows.order_by().values_list(*columns):
        tallies[(name, of_site, label)].add(*row)
    return [_record(start, *key, tally) for key, tally in sorted(tallies.items())]


def _record(at: datetime, metric: str, site: str, label: str, tally: Tally) -> dict[str, Any]:
    values = tally.distribution()
    return {
        "at": at.isoformat(),
        "metric": metric,
        "site": site,
        "label": label,
        "count": tally.counted + tally.n,
        **{name: getattr(values, name) for name in COLUMNS[5:]},
    }


def _csv(steps: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    yield (",".join(COLUMNS) + "\r\n").encode()
    for records in steps:
        text = io.StringIO()
        csv.writer(text).writerows([[_cell(value) for value in row.values()] for row in records])
        yield text.getvalue().encode()


def _json(steps: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    before = b"["
    for records in steps:
        for record in records:
            yield before + orjson.dumps(record)
            before = b",\n"
    yield b"[]" if before == b"[" else b"]"


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
