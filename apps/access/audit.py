"""Writing the audit, bringing it into rows, and ending it when it is old enough."""

from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import orjson
from django.db.models import CharField

from apps.access.audit_import import import_journals
from apps.access.contracts import AuditRecord, ImportReport
from apps.access.journal import JOURNAL, AuditUnavailable
from apps.access.models import AuditEntry
from apps.access.together import TOGETHER
from apps.common.redaction import redact, redact_text

MAX_DETAILS_BYTES: Final = 4_096
MAX_PURPOSE: Final = 200

__all__ = [
    "AuditRecord",
    "AuditUnavailable",
    "ImportReport",
    "import_journals",
    "purge",
    "record",
    "record_held",
]


def record(entry: AuditRecord) -> None:
    """Write one line of the audit to this process's journal; no database is asked.

    When this returns the operating system has the line: it survives this process. Raises
    AuditUnavailable if it cannot be written; then the thing audited must not be done.
    """
    JOURNAL.append(_line_of(entry))


async def record_held(entry: AuditRecord) -> bool:
    """Do as `record` if no lock and no file has to be waited for; else False, nothing is written.

    Raises AuditUnavailable.
    """
    return await TOGETHER.append(_line_of(entry))


def purge(*, before: datetime, limit: int = 1_000) -> int:
    """Delete at most `limit` entries older than `before`, oldest first; return how many."""
    old = AuditEntry.objects.filter(at__lt=before).order_by("at").values("pk")[:limit]
    return AuditEntry.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()[0]


def _line_of(entry: AuditRecord) -> bytes:
    # Not asdict(): it copies deeply and was two thirds of the time of a hand-out's audit.
    fields: dict[str, Any] = {
        name: _text(getattr(entry, name))[:limit] for name, limit in _text_columns()
    }
    if entry.purpose:
        fields["purpose"] = redact_text(fields["purpose"])[:MAX_PURPOSE]
    details = _storable(redact(entry.details)) if entry.details else {}
    if len(orjson.dumps(details, default=str)) > MAX_DETAILS_BYTES:
        details = {"left_out": "too long"}
    fields |= {"uuid": entry.uuid, "at": entry.at.astimezone(UTC), "cached": entry.cached}
    return orjson.dumps(fields | {"details": details}, default=str) + b"\n"


@cache
def _text_columns() -> tuple[tuple[str, int | None], ...]:
    """Names and lengths of the columns that hold text."""
    columns = AuditEntry._meta.concrete_fields
    return tuple((one.attname, one.max_length) for one in columns if isinstance(one, CharField))


def _text(value: object) -> str:
    """Replace what JSON or PostgreSQL cannot store: NUL and half surrogate pairs."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "�")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
