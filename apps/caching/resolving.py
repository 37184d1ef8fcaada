"""From a miss to a value: Redis, then one loader in the whole cluster.

The steps are a generator that yields what takes time, so that threads and coroutines walk the
same path: a number of seconds to sleep, `LOAD`, or a call to Redis.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import structlog
from django.conf import settings

from apps.caching import counters
from apps.caching.codec import Undecodable, pack
from apps.caching.contracts import Layer, Policy
from apps.caching.envelope import STAMP_BYTES, Envelope, close, open_envelope
from apps.caching.flights import Outcome
from apps.caching.guard import Away, Patience
from apps.caching.incidents import CORRUPT, FOREIGN
from apps.caching.leases import LEASE_S
from apps.caching.local import Space
from apps.caching.shared import GENERATION_BYTES, Lease, Reading
from apps.common import clock
from apps.common.crypto import CannotOpen, key_id, keyring
from apps.common.database import is_unavailable
from apps.common.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from apps.caching.runtime import Runtime

log = structlog.get_logger(__name__)

wall = time.time
LOAD: Final = object()
FIRST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.05
# While the database is down, one caller in this time finds out and the others are served at once.
OUTAGE_PAUSE_S: Final = 1.0
Steps = Generator[Any, Any, Outcome]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the caller wants a loaded value kept."""

    ttl_s: float | None = None
    expires_at: Callable[[Any], datetime | None] | None = None
    deadline_s: float = 30.0


@dataclass(slots=True)
class Found:
    """A value of the shared layer that counts; fresh or stale."""

    envelope: Envelope
    blob: bytes

    def fresh(self) -> bool:
        return wall() < self.envelope.fresh_until

    def ageing(self, policy: Policy) -> bool:
        """Say whether the value is in the last share of its life, where it is renewed."""
        life_s = self.envelope.fresh_until - self.envelope.stored_at
        left_s = self.envelope.fresh_until - wall()
        return left_s < life_s * policy.early_refresh


@dataclass(slots=True)
class Search:
    """One caller's way from a miss to a value."""

    runtime: Runtime
    space: Space
    key: str
    name: str
    wanted: Wanted
    # Changes if the name is invalidated meanwhile.
    ticket: int
    deadline: float
    # For Redis, over all steps; the time that the loader takes does not count.
    patience: Patience

    @classmethod
    def begin(cls, runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted) -> Self:
        deadline = clock.monotonic() + wanted.deadline_s
        ticket = space.ticket(name)
        return cls(runtime, space, key, name, wanted, ticket, deadline, runtime.patience())

    def keep(self, found: Found) -> None:
        keep(self.runtime, self.space, self.key, self.name, found, ticket=self.ticket)

    def found(self, found: Found) -> Outcome:
        """Keep a value of the shared layer in this process and return it."""
        self.keep(found)
        return outcome_of(found, Layer.L2)


def judge(
    runtime: Runtime, space: Space, name: str, reading: Reading, *, again: bool = False
) -> Found | None:
    """Return the value of a reading if it opens and its generations stand; stale ones too.

    `again` says that the same value may have been judged, and counted, a moment ago.
    """
    if reading.blob is None or not reading.generations:
        return None
    namespace = space.namespace
    try:
        envelope = open_envelope(
            reading.blob, namespace=namespace, name=name, secret=space.policy.secret
        )
    except (Undecodable, CannotOpen) as error:
        if not again:
            space.count(Layer.L2, counters.ERRORS)
            foreign = isinstance(error, CannotOpen) and _foreign(reading.blob)
            runtime.incidents.note(FOREIGN if foreign else CORRUPT)
            log.warning("cache_value_unreadable", namespace=namespace, code=error.code)
        return None
    stamp = envelope.stamp
    if stamp[: 2 * GENERATION_BYTES] != reading.generations:
        return None
    if not runtime.generations.accepts(namespace, stamp[2 * GENERATION_BYTES :]):
        return None
    if wall() >= envelope.usable_until:
        return None
    return Found(envelope, reading.blob)


def _foreign(blob: bytes) -> bool:
    """Say whether a value is sealed under a key this process does not have."""
    try:
        return key_id(blob[1:]) not in keyring().keys
    except CannotOpen:
        return False


def fetch(runtime: Runtime, space: Space, name: str, patience: Patience) -> Found | None:
    """Return what the shared layer holds, fresh or stale; None if nothing or not reachable."""
    shared = runtime.reachable(patience)
    if shared is None:
        return None
    try:
        reading = shared.read(space.namespace, name, patience)
    except Away:
        space.count(Layer.L2, counters.ERRORS)
        return None
    found = judge(runtime, space, name, reading)
    count_read(space, found)
    return found


def count_read(space: Space, found: Found | None) -> None:
    """Count a read of the shared layer."""
    hit = found is not None and found.fresh()
    space.count(Layer.L2, counters.HITS if hit else counters.MISSES)
    if hit and found is not None and found.envelope.negative:
        space.count(Layer.L2, counters.NEGATIVE_HITS)


def keep(runtime: Runtime, space: Space, key: str, name: str, found: Found, *, ticket: int) -> None:
    """Put a value into this process, unless it was invalidated since `ticket`."""
    if space.policy.l1_ttl_s <= 0:
        return
    space.put(
        found.envelope, name, key,
        ticket=ticket, now=clock.monotonic(), wall=wall(),
        clamp_s=settings.LATCHKEY_L1_MAX_AGE_S,
    )  # fmt: skip


def enclose(
    policy: Policy,
    *,
    key: str,
    name: str,
    value: Any,
    ttl_s: float | None,
    ends: datetime | None,
    stamp: bytes,
    load_s: float = 0.0,
) -> Found | None:
    """Return the value ready to be stored; None if it has no life to live.

    The jitter only shortens: nothing lives longer than its policy or its own end says.
    """
    negative = value is None
    life_s = policy.ttl_s if ttl_s is None else ttl_s
    if negative:
        life_s = min(life_s, policy.negative_ttl_s)
    now = wall()
    fresh_until = now + life_s * (1 - policy.jitter * random.random())  # noqa: S311 — no secret
    usable_until = fresh_until + (0 if negative else policy.stale_if_error_s)
    if ends is not None:
        fresh_until = min(fresh_until, ends.timestamp())
        usable_until = min(usable_until, ends.timestamp())
    if fresh_until <= now:
        return None
    envelope = Envelope(
        stored_at=now,
        fresh_until=fresh_until,
        usable_until=usable_until,
        stamp=stamp.ljust(STAMP_BYTES, b"\0"),
        key=key,
        payload=pack(value),
        load_s=load_s,
        negative=negative,
    )
    blob = close(envelope, namespace=policy.namespace, name=name, secret=policy.secret)
    return Found(envelope, blob)


def outcome_of(found: Found, layer: Layer, *, stale: bool = False) -> Outcome:
    age_s = max(0.0, wall() - found.envelope.stored_at)
    return Outcome(found.envelope.payload, layer, stale, age_s)


def resolve(runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted) -> Steps:
    """Walk from a miss in this process to a value. Raises what the loader raises."""
    search = Search.begin(runtime, space, key, name, wanted)
    old = yield partial(fetch, runtime, space, name, search.patience)
    if old is not None and old.fresh():
        return search.found(old)
    lease: Lease | None = None
    if runtime.reachable() is not None:
        lease, newer = yield from _stand_in_line(search)
        if newer is not None:
            return search.found(newer)
    if clock.monotonic() < space.outage_until:
        spare = _spare(space, key, name, old)
        if spare is not None:
            yield partial(_give_back, search, lease)
            return spare
    return (yield from _load(search, lease, old))


def renew(
    runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted
) -> Generator[Any, Any, Outcome | None]:
    """Load a value anew while the old one is served; None if somebody else does."""
    search = Search.begin(runtime, space, key, name, wanted)
    lease = None
    if runtime.reachable() is not None:
        lease = yield partial(_ask, search)
        if lease is not None and not lease.gained:
            return None
    if lease is not None:
        newer = judge(runtime, space, name, lease.reading)
        if newer is not None and not newer.ageing(space.policy):
            yield partial(_give_back, search, lease)
            return search.found(newer)
    return (yield from _load(search, lease, None))


def _stand_in_line(
    search: Search,
) -> Generator[Any, Any, tuple[Lease | None, Found | None]]:
    """Return a lease, or the value somebody else loaded meanwhile; neither if Redis is away."""
    pause_s = FIRST_PAUSE_S
    while clock.monotonic() < search.deadline:
        left_s = search.patience.left_s
        lease = yield partial(_ask, search)
        if lease is None:
            break
        found = judge(search.runtime, search.space, search.name, lease.reading, again=True)
        if found is not None and found.fresh():
            if lease.gained:
                yield partial(_give_back, search, lease)
            return None, found
        if lease.gained:
            return lease, None
        if left_s - search.patience.left_s < search.patience.prompt_s:
            # A prompt answer is part of the wait for somebody else's load, not a cost of Redis.
            search.patience.left_s = left_s
        yield pause_s
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
    return None, None


def _load(search: Search, lease: Lease | None, old: Found | None) -> Steps:
    runtime, space, wanted = search.runtime, search.space, search.wanted
    stamp = (lease.reading.generations if lease else b"\0" * 2 * GENERATION_BYTES) + (
        runtime.generations.stamp(space.namespace)
    )
    if lease is not None:
        runtime.leases.hold(lease, deadline=search.deadline)
    began = clock.monotonic()
    try:
        value = yield LOAD
    except BaseException as error:
        spare = _failed(space, search.key, search.name, old, error)
        yield partial(_give_back, search, lease)
        if spare is None:
            raise
        return spare
    finally:
        if lease is not None:
            runtime.leases.drop(lease)
    load_s = clock.monotonic() - began
    space.count(Layer.LOADER, counters.LOADS)
    space.count(Layer.LOADER, counters.LOAD_MS, load_s * 1000)
    ends = wanted.expires_at(value) if wanted.expires_at is not None and value is not None else None
    made = enclose(
        space.policy, key=search.key, name=search.name, value=value,
        ttl_s=wanted.ttl_s, ends=ends, stamp=stamp, load_s=load_s,
    )  # fmt: skip
    if made is None:
        yield partial(_give_back, search, lease)
        return Outcome(pack(value), Layer.LOADER)
    if (yield partial(_commit, search, lease, made)):
        search.keep(made)
    return Outcome(made.envelope.payload, Layer.LOADER)


def _ask(search: Search) -> Lease | None:
    runtime, space = search.runtime, search.space
    shared = runtime.reachable()
    # Without the thread that renews leases, one must last as long as its loader may.
    renewed = runtime.background is not None
    lease_s = LEASE_S if renewed else max(LEASE_S, search.deadline - clock.monotonic())
    if shared is None:
        return None
    try:
        return shared.lease(space.namespace, search.name, search.patience, lease_s=lease_s)
    except Away:
        space.count(Layer.L2, counters.ERRORS)
        return None


def _give_back(search: Search, lease: Lease | None) -> None:
    shared = search.runtime.shared
    if lease is None or shared is None:
        return
    try:
        shared.release(lease, search.patience)
    except Away:
        log.debug("cache_lease_left_to_end", namespace=lease.namespace)


def _commit(search: Search, lease: Lease | None, made: Found) -> bool:
    """Store a loaded value; False if it may already be an old one."""
    shared = search.runtime.shared
    if lease is None or shared is None:
        return True
    ttl_s = made.envelope.usable_until - wall()
    try:
        return shared.commit(lease, made.blob, search.patience, ttl_s=ttl_s)
    except Away:
        search.space.count(Layer.L2, counters.ERRORS)
        return True


def _failed(
    space: Space, key: str, name: str, old: Found | None, error: BaseException
) -> Outcome | None:
    """Count a failed load; return a stale value if it was the database that failed."""
    space.count(Layer.LOADER, counters.ERRORS)
    if not (isinstance(error, DatabaseUnavailable) or is_unavailable(error)):
        return None
    space.outage_until = clock.monotonic() + OUTAGE_PAUSE_S
    return _spare(space, key, name, old)


def _spare(space: Space, key: str, name: str, old: Found | None) -> Outcome | None:
    """Return the newest value that is past its life and may still stand in."""
    spare = outcome_of(old, Layer.L2, stale=True) if old is not None else None
    entry = space.stale(key, clock.monotonic())
    if entry is not None:
        age_s = clock.monotonic() - entry.stored_at
        if spare is None or age_s < spare.age_s:
            payload = entry.payload()
            spare = Outcome(payload, Layer.L1, stale=True, age_s=age_s)
    if spare is not None:
        space.count(spare.layer, counters.STALE)
    return spare
