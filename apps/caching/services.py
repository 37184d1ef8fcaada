"""The cache as other apps use it: first this process, then Redis, then the loader.

No call raises because Redis is away; it is then as if there were none. `set` and `delete` belong
after the commit of what they tell; `invalidate_on_commit` sees to that. For values that are rows,
prefer deleting and loading to setting: only a load can tell that its value was overtaken.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from apps.caching import counters, observing, resolving, writing
from apps.caching import usage as usage_rows
from apps.caching.codec import Undecodable, unpack
from apps.caching.contracts import Health, Layer, Lookup, Policy, Usage
from apps.caching.driving import afly, fly
from apps.caching.flights import Outcome
from apps.caching.guard import Away
from apps.caching.incidents import CORRUPT
from apps.caching.keys import EVERYTHING, digest
from apps.caching.local import Entry, Space
from apps.caching.models import CacheUsage
from apps.caching.resolving import Wanted
from apps.caching.runtime import Runtime, current
from apps.common import clock

Ends = Callable[[Any], datetime | None]


def get(namespace: str, key: str, default: Any = None) -> Any:
    """Return the cached value, or `default`. Never a stale one."""
    runtime = current()
    space = runtime.space(namespace)
    entry = space.read(key, clock.monotonic(), runtime.told_until)
    if entry is not None:
        return unpack(entry.payload())
    found = _there(runtime, space, key, digest(namespace, key))
    return default if found is None else found[0]


def held(namespace: str, key: str) -> Lookup | None:
    """Return what this process holds and may serve; None means: ask `lookup`.

    Never waits and asks nobody, so an event loop may call it. A value that is due for renewal is
    left to `lookup`, which sees to that.
    """
    runtime, now = current(), clock.monotonic()
    entry = runtime.space(namespace).held(key, now, runtime.told_until)
    if entry is None:
        return None
    return Lookup(unpack(entry.payload()), Layer.L1, False, now - entry.stored_at)


def get_many(namespace: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return what is cached of these keys, with one round trip for all that is not here."""
    runtime = current()
    space = runtime.space(namespace)
    found: dict[str, Any] = {}
    missing = []
    for key in dict.fromkeys(keys):
        here = _here(runtime, space, key)
        if here is None:
            missing.append(key)
        else:
            found[key] = here[0].value
    patience = runtime.patience()
    shared = runtime.reachable(patience) if missing else None
    if shared is None:
        return found
    names = [digest(namespace, key) for key in missing]
    tickets = [space.ticket(name) for name in names]
    try:
        readings = shared.read_many(namespace, names, patience)
    except Away:
        space.count(Layer.L2, counters.ERRORS)
        return found
    for key, name, ticket, reading in zip(missing, names, tickets, readings, strict=True):
        hit = resolving.judge(runtime, space, name, reading)
        resolving.count_read(space, hit)
        if hit is not None and hit.fresh():
            try:
                found[key] = unpack(hit.envelope.payload)
            except Undecodable:
                runtime.incidents.note(CORRUPT)
                continue
            resolving.keep(runtime, space, key, name, hit, ticket=ticket)
    return found


def lookup(
    namespace: str,
    key: str,
    loader: Callable[[], Any] | None = None,
    *,
    ttl_s: float | None = None,
    expires_at: Ends | None = None,
    deadline_s: float = 30.0,
) -> Lookup | None:
    """Return the value and where it came from; None when it is nowhere and there is no loader.

    One loader runs for a key, in the cluster where Redis is, else in the process; `deadline_s`
    is how long the others wait for it. `expires_at(value)` names the end of a loaded value, such
    as a token's own. When the loader fails because the database is down, a value past its life
    is returned with `stale=True` for as long as the policy says; any other error of the loader
    is raised, to all who wait for it.
    """
    runtime = current()
    space = runtime.space(namespace)
    here = _here(runtime, space, key)
    if here is not None:
        found, entry = here
        if loader is not None and clock.monotonic() >= entry.early_from:
            runtime.refreshing.start(space, key, Wanted(ttl_s, expires_at, deadline_s), loader)
        return found
    name = digest(namespace, key)
    if loader is None:
        there = _there(runtime, space, key, name)
        if there is None:
            return None
        return Lookup(there[0], Layer.L2, False, resolving.outcome_of(there[1], Layer.L2).age_s)
    wanted = Wanted(ttl_s, expires_at, deadline_s)
    try:
        return _lookup_of(fly(runtime, space, key, name, wanted, loader))
    except Undecodable:
        # A newer version of this software wrote a kind of value that this one does not know.
        runtime.incidents.note(CORRUPT)
        return Lookup(loader(), Layer.LOADER)


def get_or_load(
    namespace: str,
    key: str,
    loader: Callable[[], Any],
    *,
    ttl_s: float | None = None,
    expires_at: Ends | None = None,
    deadline_s: float = 30.0,
) -> Any:
    """Return the cached value, or what one `loader()` returns; see `lookup`."""
    found = lookup(
        namespace, key, loader, ttl_s=ttl_s, expires_at=expires_at, deadline_s=deadline_s
    )
    return None if found is None else found.value


async def alookup(
    namespace: str,
    key: str,
    loader: Callable[[], Awaitable[Any]],
    *,
    ttl_s: float | None = None,
    expires_at: Ends | None = None,
    deadline_s: float = 30.0,
) -> Lookup:
    """Do as `lookup` for a coroutine; Redis is asked in a thread, so the event loop never waits."""
    runtime = current()
    space = runtime.space(namespace)
    wanted = Wanted(ttl_s, expires_at, deadline_s)
    here = _here(runtime, space, key)
    if here is not None:
        found, entry = here
        if clock.monotonic() >= entry.early_from:
            runtime.refreshing.astart(space, key, wanted, loader)
        return found
    name = digest(namespace, key)
    try:
        return _lookup_of(await afly(runtime, space, key, name, wanted, loader))
    except Undecodable:
        runtime.incidents.note(CORRUPT)
        return Lookup(await loader(), Layer.LOADER)


def set(
    namespace: str,
    key: str,
    value: Any,
    *,
    ttl_s: float | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Keep a value for `ttl_s` (the policy's, if None) and never past `expires_at`.

    Raises codec.NotCacheable for a value that is no plain data.
    """
    runtime = current()
    space = runtime.space(namespace)
    writing.store(runtime, space, key, value, ttl_s=ttl_s, expires_at=expires_at)


def delete(namespace: str, *keys: str) -> None:
    """Forget these keys in every layer and process, and refuse loads already under way.

    Where Redis cannot be told, the whole namespace is outdated through the database instead.
    """
    if not keys:
        return
    runtime = current()
    space = runtime.space(namespace)
    writing.remove(runtime, space, [digest(namespace, key) for key in keys])


def invalidate_on_commit(namespace: str, *keys: str) -> None:
    """Forget these keys once the present transaction has committed (now, if there is none)."""
    transaction.on_commit(partial(delete, namespace, *keys), robust=True)


def exists(namespace: str, key: str) -> bool:
    """Say whether a fresh value is cached; a cached None counts."""
    return lookup(namespace, key) is not None


def clear(namespace: str) -> None:
    """Forget a namespace in every layer and process."""
    runtime = current()
    runtime.space(namespace)
    writing.clear(runtime, namespace)


def is_known(namespace: str) -> bool:
    """Say whether a namespace has a policy, or anything was cached in it anywhere of late."""
    runtime = current()
    here = namespace in runtime.policies.all() or namespace in runtime.spaces
    return here or CacheUsage.objects.filter(namespace=namespace).exists()


def clear_pattern(namespace: str, pattern: str) -> int:
    """Forget the keys of a namespace that match a shell pattern; return how many were found.

    Looks into every value of the namespace: for people, not for programs in a loop.
    """
    runtime = current()
    return writing.clear_matching(runtime, runtime.space(namespace), pattern)


def clear_all() -> None:
    """Forget everything this software has cached, and nothing else that lives in that Redis."""
    writing.clear(current(), EVERYTHING)


def policies() -> dict[str, Policy]:
    """Return the policies in force in this process, by namespace."""
    return current().policies.all()


def reload_policies() -> None:
    """Apply changed policies here now, and have the other processes look at once."""
    runtime = current()
    runtime.policies.poll()
    try:
        shared = runtime.reachable(runtime.patience())
        if shared is not None:
            shared.publish(runtime.message("p", EVERYTHING))
    except Away:
        return  # they look by themselves every two seconds


def statistics(window_s: float = 300.0) -> list[Usage]:
    """Return what each layer of each namespace did in the window, in the whole cluster."""
    return observing.statistics(current(), window_s=window_s)


def reads_by_minute(since: datetime) -> dict[datetime, tuple[int, int]]:
    """Return for each minute how many reads there were, and how many a layer has answered.

    Of the whole cluster, at most 5 s late. Raises DatabaseError when the database is down.
    """
    return usage_rows.reads_by_minute(since)


def flush_statistics() -> int:
    """Write what this process has counted; return the number of rows. Raises DatabaseError."""
    return usage_rows.flush(current())


def clean_statistics(*, older_than: datetime) -> int:
    """Delete usage from before `older_than`; return how many rows."""
    return usage_rows.clean(older_than=older_than)


def health() -> Health:
    """Return how the cache of this process is; quick: a time-out of Redis at most, once."""
    return observing.health(current())


def _here(runtime: Runtime, space: Space, key: str) -> tuple[Lookup, Entry] | None:
    now = clock.monotonic()
    entry = space.read(key, now, runtime.told_until)
    if entry is None:
        return None
    return Lookup(unpack(entry.payload()), Layer.L1, False, now - entry.stored_at), entry


def _there(
    runtime: Runtime, space: Space, key: str, name: str
) -> tuple[Any, resolving.Found] | None:
    ticket = space.ticket(name)
    found = resolving.fetch(runtime, space, name, runtime.patience())
    if found is None or not found.fresh():
        return None
    try:
        value = unpack(found.envelope.payload)
    except Undecodable:
        runtime.incidents.note(CORRUPT)
        return None
    resolving.keep(runtime, space, key, name, found, ticket=ticket)
    return value, found


def _lookup_of(outcome: Outcome) -> Lookup:
    return Lookup(unpack(outcome.payload), outcome.layer, outcome.stale, outcome.age_s)
