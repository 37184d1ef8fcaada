"""Setting, deleting and clearing, so that no layer and no process keeps the old value."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final

import structlog
from django.conf import settings

from apps.caching import counters
from apps.caching.codec import Undecodable, pack
from apps.caching.contracts import Layer
from apps.caching.envelope import open_key
from apps.caching.guard import Away, Patience
from apps.caching.keys import digest
from apps.caching.leases import LEASE_S
from apps.caching.local import Space
from apps.caching.resolving import enclose, keep
from apps.caching.runtime import Runtime
from apps.caching.shared import Shared
from apps.common import clock
from apps.common.crypto import CannotOpen

log = structlog.get_logger(__name__)

BATCH: Final = 500
# Clearing by pattern has to read every key of the namespace.
SCAN_LIMIT_S: Final = 30.0
SWEEP_LIMIT_S: Final = 1.0


def store(
    runtime: Runtime, space: Space, key: str, value: Any,
    *, ttl_s: float | None, expires_at: datetime | None,
) -> None:  # fmt: skip
    """Keep a value in all layers, in place of whatever is there or on its way."""
    pack(value)  # what cannot be cached fails before anything is touched
    name, namespace = digest(space.namespace, key), space.namespace
    patience = runtime.patience()
    shared = runtime.reachable(patience)
    generations, lease = b"\0" * 16, None
    if shared is not None and shared.guard.writable:
        try:
            lease = shared.lease(namespace, name, patience, lease_s=LEASE_S, steal=True)
            generations = lease.reading.generations
        except Away:
            space.count(Layer.L2, counters.ERRORS)
    made = enclose(
        space.policy, key=key, name=name, value=value, ttl_s=ttl_s, ends=expires_at,
        stamp=generations + runtime.generations.stamp(namespace),
    )  # fmt: skip
    if made is None:
        remove(runtime, space, [name])
        return
    # Loads under way began before this value was known.
    runtime.forget_names(namespace, [name])
    ticket = space.ticket(name)
    if lease is not None and shared is not None:
        try:
            told = shared.commit(
                lease,
                made.blob,
                patience,
                ttl_s=made.envelope.usable_until - clock.now().timestamp(),
                message=runtime.message("n", namespace, [name]),
            )
        except Away:
            space.count(Layer.L2, counters.ERRORS)
        else:
            if told:
                keep(runtime, space, key, name, made, ticket=ticket)
            return
    _tell_otherwise(runtime, space, [name], patience)
    keep(runtime, space, key, name, made, ticket=space.ticket(name))


def remove(runtime: Runtime, space: Space, names: list[str]) -> None:
    """Forget names in Redis first, then here: a reader between the two is refused by its ticket."""
    namespace = space.namespace
    told, patience = False, runtime.patience()
    shared = runtime.reachable(patience)
    if shared is not None:
        try:
            shared.delete(namespace, names, runtime.message("n", namespace, names), patience)
            told = True
        except Away:
            space.count(Layer.L2, counters.ERRORS)
    if not told and _others_may_hold(runtime, space):
        runtime.generations.bump(namespace)
    runtime.forget_names(namespace, names)


def clear(runtime: Runtime, namespace: str) -> None:
    """Forget a namespace (`*`: all of them) in every layer and process."""
    told, patience = False, runtime.patience()
    shared = runtime.reachable(patience)
    if shared is not None:
        try:
            shared.clear(namespace, runtime.message("c", namespace), patience)
            told = True
        except Away:
            log.warning("cache_clear_untold", namespace=namespace)
    if not told and (runtime.shared is not None or runtime.background is not None):
        runtime.generations.bump(namespace)
    runtime.forget_space(namespace)
    if told and shared is not None:
        _sweep(shared, namespace)


def clear_matching(runtime: Runtime, space: Space, pattern: str) -> int:
    """Forget the keys that match a shell pattern; return how many were found.

    Names in Redis are hashes, so every value of the namespace is looked into. A value that does
    not open is forgotten too.
    """
    namespace = space.namespace
    names = {name for _, name in space.keys(lambda key: fnmatchcase(key, pattern))}
    shared = runtime.reachable(runtime.patience())
    complete = runtime.shared is None
    if shared is not None:
        deadline = clock.monotonic() + SCAN_LIMIT_S
        try:
            # Loads under way may bring a value that matches: their leases go first.
            for part in _batches(shared.scan(namespace, deadline=deadline, kind="l")):
                shared.unlink("l", namespace, part)
            names |= _matching(shared, space, pattern, deadline)
            complete = clock.monotonic() < deadline
        except Away:
            complete = False
    if complete:
        for part in _batches(sorted(names)):
            remove(runtime, space, part)
        # Other processes may hold keys that Redis has dropped.
        _publish_clear(runtime, namespace)
        runtime.flights.forget_all(namespace)
    else:
        clear(runtime, namespace)
    return len(names)


def _others_may_hold(runtime: Runtime, space: Space) -> bool:
    if runtime.shared is not None:
        return True
    # Alone, entries of other processes end by themselves within seconds where L1 is short.
    long_lived = space.policy.l1_ttl_s > settings.LATCHKEY_L1_MAX_AGE_S
    return runtime.background is not None and long_lived


def _tell_otherwise(runtime: Runtime, space: Space, names: list[str], patience: Patience) -> None:
    """A value could not be replaced in Redis: the old one must not be found there."""
    shared = runtime.reachable()
    if shared is not None:
        try:
            message = runtime.message("n", space.namespace, names)
            shared.delete(space.namespace, names, message, patience)
        except Away:
            space.count(Layer.L2, counters.ERRORS)
        else:
            return
    if runtime.shared is not None:
        runtime.generations.bump(space.namespace)
    elif _others_may_hold(runtime, space):
        runtime.generations.mark(space.namespace)


def _matching(shared: Shared, space: Space, pattern: str, deadline: float) -> set[str]:
    namespace, found = space.namespace, set()
    for part in _batches(shared.scan(namespace, deadline=deadline)):
        readings = shared.read_many(namespace, part, shared.patience())
        for name, reading in zip(part, readings, strict=True):
            if reading.blob is None:
                continue
            try:
                key = open_key(
                    reading.blob, namespace=namespace, name=name, secret=space.policy.secret
                )
            except (Undecodable, CannotOpen):
                found.add(name)
                continue
            if fnmatchcase(key, pattern):
                found.add(name)
    return found


def _publish_clear(runtime: Runtime, namespace: str) -> None:
    shared = runtime.reachable()
    try:
        if shared is not None:
            shared.publish(runtime.message("c", namespace))
            return
    except Away:
        log.warning("cache_clear_untold", namespace=namespace)
    if runtime.shared is not None or runtime.background is not None:
        runtime.generations.bump(namespace)


def _sweep(shared: Shared, namespace: str) -> None:
    """Free the memory of what no longer counts; what time does not allow ends by its TTL."""
    deadline = clock.monotonic() + SWEEP_LIMIT_S
    try:
        for part in _batches(shared.scan(namespace, deadline=deadline)):
            shared.unlink("v", namespace, part)
    except Away:
        log.info("cache_sweep_stopped", namespace=namespace)


def _batches(names: list[str]) -> list[list[str]]:
    rest = iter(names)
    return list(iter(lambda: list(islice(rest, BATCH)), []))
