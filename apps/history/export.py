"""The history as CSV or JSON lines, in constant memory."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from apps.history.models import TokenAcquisitionHistory
from apps.history.querysets import HistoryQuerySet

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
COLUMNS = [
    "id",
    "request_id",
    "site",
    "account",
    "status",
    "trigger_reason",
    "queue",
    "attempts",
    "retries",
    "total_s",
    "login_s",
    "token_fingerprint",
    "error_code",
    "error_message",
    "created_at",
    "started_at",
    "finished_at",
]
CHUNK = 1_000
# A spreadsheet runs what starts like this as a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def lines(records: HistoryQuerySet, form: str) -> Iterator[bytes]:
    """Yield the export piece by piece, newest first; `form` is a key of FORMATS.

    Reads page by page along an index: no transaction stays open while a slow client reads, and
    memory does not grow. A row is exported once; one recorded meanwhile may be missing.
    """
    pages = _pages(records.order_by("-finished_at", "-id"))
    return _csv(pages) if form == "csv" else _json_lines(pages)


def _pages(records: HistoryQuerySet) -> Iterator[list[TokenAcquisitionHistory]]:
    page = list(records[:CHUNK])
    while page:
        yield page
        page = list(records.before(page[-1])[:CHUNK]) if len(page) == CHUNK else []


def _csv(pages: Iterable[list[TokenAcquisitionHistory]]) -> Iterator[bytes]:
    rows = csv.writer(_Echo())
    # The mark at the start makes Excel read UTF-8, so that Chinese texts survive.
    yield b"\xef\xbb\xbf" + rows.writerow(COLUMNS).encode()
    for page in pages:
        written = [rows.writerow([_cell(getattr(row, name)) for name in COLUMNS]) for row in page]
        yield "".join(written).encode()


def _json_lines(pages: Iterable[list[TokenAcquisitionHistory]]) -> Iterator[bytes]:
    for page in pages:
        yield b"".join(
            orjson.dumps({name: getattr(row, name) for name in COLUMNS}) + b"\n" for row in page
        )


def _cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, int | float | UUID):
        return str(value)
    text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


class _Echo:
    """A file that hands each line back to the caller of `writerow`."""

    def write(self, text: str) -> str:
        return text
