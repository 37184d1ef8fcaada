"""Counts of all processes, added up in rows by minute."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from django.db import connection, transaction
from django.db.models import Sum

from apps.caching import counters
from apps.caching.contracts import Layer, Usage
from apps.common import clock

if TYPE_CHECKING:
    from apps.caching.runtime import Runtime

# A process reads its size once a minute, so that sums over processes count each of them once.
_sized: dict[int, datetime] = {}
_flushing = Lock()
_COLUMNS: Final = (*counters.FIELDS, "entries", "bytes")
_UPSERT: Final = (  # noqa: S608 — names of columns only
    "INSERT INTO caching_cacheusage (minute, namespace, layer, {columns}) VALUES ({marks}) "
    "ON CONFLICT (minute, namespace, layer) DO UPDATE SET {sums}"
).format(
    columns=", ".join(_COLUMNS),
    marks=", ".join(["%s"] * (len(_COLUMNS) + 3)),
    sums=", ".join(f"{name} = caching_cacheusage.{name} + excluded.{name}" for name in _COLUMNS),
)


def flush(runtime: Runtime) -> int:
    """Add what this process counted to the rows of this minute; return the number of rows.

    Rows are added to, never read and written back, and in one order, so that processes neither
    lose counts nor wait for each other in a circle. Counts whose commit is unknown are dropped:
    a number told twice is worse than one told never. Raises DatabaseError; if the database could
    not be reached at all, nothing is lost.
    """
    connection.ensure_connection()
    minute = clock.now().replace(second=0, microsecond=0)
    with _flushing:
        with_sizes = _sized.get(id(runtime)) != minute
        rows: list[tuple[Any, ...]] = []
        for _, space in sorted(runtime.spaces.items()):
            for count in sorted(space.drain(), key=lambda count: count.layer):
                sizes = (count.entries, count.bytes) if with_sizes else (0, 0)
                if any(count.values) or any(sizes):
                    rows.append((minute, count.namespace, str(count.layer), *count.values, *sizes))
        _sized.clear()
        _sized[id(runtime)] = minute
        if rows:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.executemany(_UPSERT, rows)
    return len(rows)


def totals(*, window_s: float) -> list[Usage]:
    """Return what every layer of every namespace did in the last `window_s` seconds.

    The window is widened to whole minutes. Entries and bytes are those of the last full minute.
    """
    from apps.caching.models import CacheUsage  # models need the app registry

    start = (clock.now() - timedelta(seconds=window_s)).replace(second=0, microsecond=0)
    rows = (
        CacheUsage.objects.since(start)
        .order_by("namespace", "layer")
        .values("namespace", "layer")
        .annotate(**{f"total_{name}": Sum(name) for name in counters.FIELDS})
    )
    sizes = _sizes()
    found = []
    for row in cast("Iterable[dict[str, Any]]", rows):
        key = row["namespace"], row["layer"]
        entries, size = sizes.get(key, (0, 0))
        amounts: dict[str, Any] = {name: row[f"total_{name}"] for name in counters.FIELDS}
        found.append(Usage(namespace=key[0], layer=key[1], entries=entries, bytes=size, **amounts))
    return found


def reads_by_minute(since: datetime) -> dict[datetime, tuple[int, int]]:
    """Return for each minute how many reads there were, and how many a layer has answered."""
    from apps.caching.models import CacheUsage  # models need the app registry

    rows = (
        CacheUsage.objects.since(since)
        .order_by()
        .values_list("minute", "layer")
        .annotate(Sum("hits"), Sum("misses"))
    )
    found: dict[datetime, tuple[int, int]] = {}
    for minute, layer, hits, misses in rows:
        reads, answered = found.get(minute, (0, 0))
        # Every read asks the first layer; what that misses, the next may still have.
        asked = hits + misses if layer == Layer.L1 else 0
        found[minute] = reads + asked, answered + hits
    return found


def clean(*, older_than: datetime, batch: int = 5_000) -> int:
    """Delete rows from before `older_than`, in batches; return how many."""
    from apps.caching.models import CacheUsage  # models need the app registry

    removed = 0
    while True:
        ids = list(CacheUsage.objects.before(older_than).order_by("pk").values_list("pk")[:batch])
        if not ids:
            return removed
        removed += CacheUsage.objects.filter(pk__in=[pk for (pk,) in ids]).delete()[0]


def _sizes() -> dict[tuple[str, str], tuple[int, int]]:
    from apps.caching.models import CacheUsage  # models need the app registry

    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    recent = CacheUsage.objects.since(minute - timedelta(minutes=1)).filter(layer=Layer.L1)
    sizes: dict[tuple[str, str], tuple[int, int]] = {}
    for row in recent.order_by("minute"):
        # In the running minute some processes have not spoken yet.
        key, size = (row.namespace, row.layer), (row.entries, row.bytes)
        sizes[key] = max(sizes.get(key, (0, 0)), size)
    return sizes
