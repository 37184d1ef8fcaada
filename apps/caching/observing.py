"""What the cache is doing, for dashboards, checks and tuning."""

from dataclasses import asdict, replace
from typing import Any, Final

from apps.caching import counters, usage
from apps.caching.background import TRUST_S
from apps.caching.contracts import Health, Layer, Usage
from apps.caching.guard import Away
from apps.caching.runtime import Runtime
from apps.common import clock

SCAN_LIMIT_S: Final = 0.1
MISSED_LOOKS_S: Final = 10.0


def health(runtime: Runtime) -> Health:
    """Return how the cache of this process is; waits for its first judgement on Redis at most."""
    shared, reasons, now = runtime.shared, [], clock.monotonic()
    listening = now < runtime.told_until
    if shared is not None:
        runtime.reachable(runtime.patience())
        if not (shared.guard.readable and shared.guard.writable):
            reasons.append(shared.guard.reason)
        # Who has just begun to listen has nothing yet that it could have missed word of.
        if runtime.background is not None and not listening and now - runtime.began > TRUST_S:
            reasons.append("invalidation_not_live")
    if runtime.generations.pending:
        reasons.append("invalidation_pending")
    reasons += runtime.incidents.recent()
    working = "off" if shared is None else "ok"
    return Health(
        status="degraded" if reasons else working,
        reasons=tuple(reasons),
        since=shared.guard.since if shared is not None else None,
        invalidation_live=listening,
        pending_invalidations=len(runtime.generations.pending),
        policies_age_s=runtime.policies.age_s,
        incidents=dict(runtime.incidents.counts),
    )


def statistics(runtime: Runtime, *, window_s: float) -> list[Usage]:
    """Return what every layer of every namespace did in the window, in the whole cluster.

    What this process has not written yet is included; other processes write every 5 s. Raises
    DatabaseError when the database is down.
    """
    found = {(row.namespace, row.layer): row for row in usage.totals(window_s=window_s)}
    for space in list(runtime.spaces.values()):
        for layer, values in space.peek().items():
            key = space.namespace, str(layer)
            row = found.get(key) or Usage(namespace=space.namespace, layer=str(layer))
            added: dict[str, Any] = {
                name: getattr(row, name) + value
                for name, value in zip(counters.FIELDS, values, strict=True)
            }
            if layer is Layer.L1:
                entries, size = space.size()
                added |= {"entries": max(row.entries, entries), "bytes": max(row.bytes, size)}
            found[key] = replace(row, **_whole(added))
    _add_shared_sizes(runtime, found)
    return [row for _, row in sorted(found.items()) if any(_amounts(row))]


def _whole(amounts: dict[str, Any]) -> dict[str, Any]:
    return {name: value if name == "load_ms" else int(value) for name, value in amounts.items()}


def _amounts(row: Usage) -> list[float]:
    return [value for value in asdict(row).values() if not isinstance(value, str)]


def _add_shared_sizes(runtime: Runtime, found: dict[tuple[str, str], Usage]) -> None:
    """Count what lies in Redis, as far as a tenth of a second reaches."""
    shared = runtime.reachable()
    if shared is None:
        return
    try:
        sizes = shared.sizes(deadline=clock.monotonic() + SCAN_LIMIT_S)
    except Away:
        return
    for namespace, (entries, size) in sizes.items():
        key = namespace, str(Layer.L2)
        row = found.get(key) or Usage(namespace=namespace, layer=str(Layer.L2))
        found[key] = replace(row, entries=entries, bytes=size)
