"""Bringing the journals into rows, every complete line exactly once.

A file goes `.open` → `.taken` → gone. It is read only after the rename, deleted only after its
rows are committed, and a line's uuid is unique in the table, so a kill at any point repeats
work and never a row.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from apps.access.contracts import ImportReport
from apps.access.journal import OPEN_SUFFIX, host_name, sync_folder
from apps.access.models import AuditEntry

TAKEN_SUFFIX: Final = ".taken"
REJECTED_SUFFIX: Final = ".rejected"
BATCH_LINES: Final = 500
# A container gets a new host name each time it is made; its old journals are left behind.
ORPHANED_AFTER_S: Final = 3_600.0

log = structlog.get_logger(__name__)


def import_journals() -> ImportReport:
    """Import what this host's processes have written so far, and what no host writes any more.

    Safe to run anywhere and at any time: a second import at the same time does nothing and says
    `skipped`. Database errors pass through; the next import goes on from there.
    """
    folder = Path(settings.LATCHKEY_AUDIT_DIR)
    if not folder.is_dir():
        return ImportReport()
    with _only_importer(folder) as alone:
        if not alone:
            return ImportReport(skipped=True)
        _take_over(folder)
        report = ImportReport()
        with _durable_commits():
            for path in sorted(folder.glob(f"*{TAKEN_SUFFIX}")):
                report = _import_file(path, report)
        return report


@contextmanager
def _only_importer(folder: Path) -> Iterator[bool]:
    fd = os.open(folder / ".import.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


@contextmanager
def _durable_commits() -> Iterator[None]:
    """Make SQLite bring each commit to the disk: the file with the lines is deleted after it."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=FULL")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=NORMAL")


def _take_over(folder: Path) -> None:
    """Rename the journals that are ours to import, each under its writer's lock."""
    mine = f"{host_name()}."
    for path in sorted(folder.glob(f"*{OPEN_SUFFIX}")):
        orphaned = time.time() - path.stat().st_mtime > ORPHANED_AFTER_S
        if not path.name.startswith(mine) and not orphaned:
            continue
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            path.rename(path.with_suffix(TAKEN_SUFFIX))
        finally:
            os.close(fd)
    sync_folder(folder)


def _import_file(path: Path, report: ImportReport) -> ImportReport:
    entries: list[AuditEntry] = []
    rejected = torn = imported = duplicates = 0
    with path.open("rb") as file:
        for line in file:
            entry = _entry_of(line)
            if entry is not None:
                entries.append(entry)
            elif line.endswith(b"\n"):
                rejected += 1
            else:
                torn += 1
            if len(entries) >= BATCH_LINES:
                imported, duplicates = _add(entries, imported, duplicates)
                entries = []
    imported, duplicates = _add(entries, imported, duplicates)
    if rejected:
        log.error("audit_lines_rejected", file=path.name, lines=rejected)
        path.rename(path.with_suffix(REJECTED_SUFFIX))
    else:
        path.unlink()
    return replace(
        report,
        files=report.files + 1,
        imported=report.imported + imported,
        duplicates=report.duplicates + duplicates,
        torn=report.torn + torn,
        rejected=report.rejected + rejected,
    )


def _add(entries: list[AuditEntry], imported: int, duplicates: int) -> tuple[int, int]:
    """Store what is not there yet, in one transaction."""
    if not entries:
        return imported, duplicates
    with transaction.atomic():
        names = [entry.uuid for entry in entries]
        there = set(AuditEntry.objects.filter(uuid__in=names).values_list("uuid", flat=True))
        fresh = {entry.uuid: entry for entry in entries if entry.uuid not in there}
        AuditEntry.objects.bulk_create(fresh.values(), ignore_conflicts=True)
    return imported + len(fresh), duplicates + len(entries) - len(fresh)


def _entry_of(line: bytes) -> AuditEntry | None:
    """Return the row of a line, or None for a line that was cut off or damaged.

    Everything is checked here: a conflict-ignoring insert on SQLite would drop a bad row
    without a word.
    """
    try:
        fields: dict[str, Any] = orjson.loads(line)
        at = datetime.fromisoformat(fields["at"]).astimezone(UTC)
        entry = AuditEntry(**fields | {"uuid": uuid.UUID(fields["uuid"]), "at": at})
        _check(entry)
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        log.warning("audit_line_unreadable", reason=type(error).__name__)
        return None
    return entry


def _check(entry: AuditEntry) -> None:
    """Raise ValidationError for what the table would refuse."""
    missing = [
        column.attname
        for column in AuditEntry._meta.concrete_fields
        if not column.null and getattr(entry, column.attname) is None
    ]
    if missing or not isinstance(entry.details, dict):
        raise ValidationError("A column that must be there is missing.")
    entry.clean_fields(exclude=["id", "details"])
