"""The cached copy of a request's progress, and whether it agrees with the database.

The copy is for when the database is away: a caller who polls is still told something. The
database wins wherever both answer; a copy that is far off is said in the log and dropped.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction

from apps.caching import services as cache
from apps.tokens.models import TokenRequest
from apps.tokens.services import progress
from apps.tokens.services.progress import Progress

log = structlog.get_logger(__name__)

NAMESPACE: Final = "progress"
TOLERANCE_POINTS: Final = 10
_TIMES: Final = ("created_at", "completed_at")


class SyncStatus(StrEnum):
    """How the cached copy compares with the database's progress."""

    SYNCED = "synced"  # within 10 points
    OUT_OF_SYNC = "out_of_sync"  # logged; the database's is given, the copy is dropped
    CACHE_MISS = "cache_miss"
    UNKNOWN = "unknown"  # the database is away: the copy is given


def keep(pk: UUID) -> None:
    """Copy a request's progress into the cache, once the present transaction commits."""
    transaction.on_commit(partial(_read_and_write, pk), robust=True)


def keep_row(row: TokenRequest) -> None:
    """Do the same for a row that is at hand with its site and account, as it will be committed."""
    transaction.on_commit(partial(_write, row), robust=True)


def compare(row: TokenRequest) -> tuple[Progress, SyncStatus]:
    """Return a request's progress from its row, and how the cached copy compares."""
    present = progress.of(row)
    cached = cache.get(NAMESPACE, str(row.pk))
    if cached is None:
        return present, SyncStatus.CACHE_MISS
    if abs(cached["progress"] - present.progress) <= TOLERANCE_POINTS:
        return present, SyncStatus.SYNCED
    log.warning(
        "progress_out_of_sync",
        request=str(row.pk),
        cached=cached["progress"],
        stored=present.progress,
    )
    cache.delete(NAMESPACE, str(row.pk))
    return present, SyncStatus.OUT_OF_SYNC


def cached(pk: UUID) -> tuple[Progress, str, str] | None:
    """Return the copy with its site and account, for when the database is away."""
    found: Mapping[str, Any] | None = cache.get(NAMESPACE, str(pk))
    if found is None:
        return None
    values = {name: found[name] for name in Progress.__dataclass_fields__}
    for name in _TIMES:
        seconds = values[name]
        values[name] = datetime.fromtimestamp(seconds, tz=UTC) if seconds is not None else None
    return Progress(**values), found["site"], found["account"]


def _read_and_write(pk: UUID) -> None:
    row = TokenRequest.objects.select_related("site", "account").filter(pk=pk).first()
    if row is not None:
        _write(row)


def _write(row: TokenRequest) -> None:
    content = asdict(progress.of(row))
    for name in _TIMES:
        content[name] = content[name].timestamp() if content[name] else None
    content["site"] = row.site.slug
    content["account"] = row.account.username if row.account else ""
    cache.set(NAMESPACE, str(row.pk), content)
