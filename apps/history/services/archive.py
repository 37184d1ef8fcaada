"""Archives: compressed JSON lines, one gzip member for each chunk that reached the disk."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from apps.common.errors import ValidationFailed
from apps.history.contracts import AcquisitionRecord, HistoryStatus
from apps.history.models import TokenAcquisitionHistory
from apps.history.periods import month_of
from apps.history.services import members
from apps.history.services.recording import to_row

SUFFIX = ".jsonl.gz"
FIELDS = [
    field.attname
    for field in TokenAcquisitionHistory._meta.concrete_fields
    if field.attname not in ("id", "total_bucket", "login_bucket")
]
MAX_COUNT = 2**31 - 1
# What foreign or broken content raises on its way to a row.
MALFORMED = (AttributeError, KeyError, OverflowError, TypeError, ValueError, zlib.error)


class DamagedArchive(ValidationFailed):
    """The file is not an archive of this software, or part of it is missing."""

    code = "damaged_archive"
    default_message = "The archive is damaged."


class Archive:
    """A new file in a folder; `append` returns only when its rows are on the disk.

    Each chunk is a complete gzip member. A crash can cut the last one, a full disk none; what is
    cut has not been deleted from the table.
    """

    def __init__(self, folder: Path, *, at: datetime) -> None:
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"history-{at:%Y%m%dT%H%M%S%f}-{os.getpid()}{SUFFIX}"
        # Exclusive: two clean-ups never share a file.
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        # A folder that was made is an entry of its parent, and that has to last as well.
        for directory in (folder, *(part.parent for part in made)):
            _sync(directory)

    def append(self, rows: Iterable[TokenAcquisitionHistory]) -> None:
        """Write rows and wait for the disk.

        Raises OSError; nothing may be deleted then, and nothing of these rows is in the file.
        """
        data = memoryview(gzip.compress(b"".join(map(line_of, rows)), compresslevel=6))
        length = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, length)
            os.fsync(self._file)
            raise

    def close(self) -> None:
        """Close the file; remove it if nothing was written."""
        empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if empty:
            self.path.unlink()


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def line_of(row: TokenAcquisitionHistory) -> bytes:
    """Return a row as one line of JSON."""
    return orjson.dumps({name: getattr(row, name) for name in FIELDS}) + b"\n"


@dataclass(frozen=True, slots=True)
class Found:
    """What the whole chunks of an archive hold: how many rows, and of which months.

    `cut` says that one more chunk follows whose end is missing.
    """

    rows: int
    months: frozenset[int]
    cut: bool


def inspect(path: Path) -> Found:
    """Read the file to its end; return what can be restored from it.

    Raises DamagedArchive, naming the last good line, for what is foreign or too long, for values
    that no row can have, and for a chunk that is damaged otherwise than by a missing end of file.
    """
    rows, months, seen, number, cut = 0, frozenset[int](), set[int](), 0, False
    try:
        for row in _rows(path):
            if row is None:
                rows, months = number, frozenset(seen)
            else:
                number += 1
                seen.add(month_of(row.finished_at))
    except EOFError:
        cut = True
    return Found(rows, months, cut)


def read(path: Path, rows: int) -> Iterator[TokenAcquisitionHistory]:
    """Yield so many rows from the beginning, unsaved and fit for the table."""
    return islice((row for row in _rows(path) if row is not None), rows)


def _rows(path: Path) -> Iterator[TokenAcquisitionHistory | None]:
    """Yield the rows, and None after each whole chunk. Raises EOFError if the last one is cut."""
    number = 0
    try:
        with path.open("rb") as file:
            for line in members.lines(file):
                yield None if line is None else to_row(_record(line))
                number += line is not None
    except MALFORMED as error:
        raise DamagedArchive(f"{path.name} is damaged after line {number}.") from error


def _record(line: bytes) -> AcquisitionRecord:
    found = orjson.loads(line)
    values: dict[str, Any] = {name: found[name] for name in FIELDS}
    for name in ("total", "login"):
        duration_ms = values.pop(f"{name}_ms")
        values[f"{name}_s"] = None if duration_ms is None else int(duration_ms) / 1000
    for name in ("created_at", "started_at", "finished_at"):
        if name != "started_at" or values[name] is not None:
            values[name] = _time(values[name])
    if max(values["attempts"], values["retries"]) > MAX_COUNT:
        raise ValueError("A count is too large for its column.")
    values["request_id"] = UUID(values["request_id"])
    values["status"] = HistoryStatus(values["status"])
    return AcquisitionRecord(**values)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    # The last month there is has no end, so it can have no partition.
    if at.tzinfo is None or at.year == MAXYEAR:
        raise ValueError("A time has no zone, or lies too far.")
    return at.astimezone(UTC)
