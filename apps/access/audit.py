"""Writing the audit, bringing it into rows, and ending it when it is old enough."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.db.models import CharField

from apps.access.audit_import import import_journals
from apps.access.contracts import AuditRecord, ImportReport
from apps.access.journal import JOURNAL, AuditUnavailable
from apps.access.models import AuditEntry
from apps.common.redaction import redact

MAX_DETAILS_BYTES: Final = 4_096

__all__ = ["AuditRecord", "AuditUnavailable", "ImportReport", "import_journals", "purge", "record"]


def record(entry: AuditRecord) -> None:
    """Write one line of the audit to this process's journal; no database is asked.

    When this returns the operating system has the line: it survives this process. Raises
    AuditUnavailable if it cannot be written; then the thing audited must not be done.
    """
    JOURNAL.append(_line_of(entry))


def purge(*, before: datetime, limit: int = 1_000) -> int:
    """Delete at most `limit` entries older than `before`, oldest first; return how many."""
    old = AuditEntry.objects.filter(at__lt=before).order_by("at").values("pk")[:limit]
    return AuditEntry.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()[0]


def _line_of(entry: AuditRecord) -> bytes:
    fields = asdict(entry) | {"uuid": str(entry.uuid), "at": entry.at.astimezone(UTC).isoformat()}
    fields |= {name: redact(fields[name]) for name in ("details", "purpose")}
    fields = _storable(fields)
    if len(orjson.dumps(fields["details"], default=str)) > MAX_DETAILS_BYTES:
        fields["details"] = {"left_out": "too long"}
    for column in AuditEntry._meta.concrete_fields:
        if isinstance(column, CharField):
            fields[column.attname] = str(fields[column.attname])[: column.max_length]
    return orjson.dumps(fields, default=str) + b"\n"


def _storable(value: Any) -> Any:
    """Replace what JSON or PostgreSQL cannot store: NUL and half surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "�")
    if isinstance(value, dict):
        return {str(_storable(str(name))): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
