"""The layer inside this process: one bounded LRU a namespace.

Values lie here packed, so every reader gets one of its own, and secrets lie here encrypted with a
key of this process, so they do not show in a dump of strings or a log of objects. All times
in entries are on the monotonic clock.
"""

import os
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final

from cachetools import Cache, LRUCache
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apps.caching import counters
from apps.caching.contracts import Layer, Policy
from apps.caching.envelope import Envelope

SLOTS: Final = 64
NONCE_BYTES: Final = 12
_vault: Final = AESGCM(AESGCM.generate_key(256))


class Entry:
    """A value of this process. `distrust_at` ends it where nobody tells us of invalidations."""

    __slots__ = (
        "data", "distrust_at", "early_from", "fresh_until", "name", "negative", "secret",
        "stored_at", "usable_until",
    )  # fmt: skip

    def __init__(
        self, payload: bytes, name: str, times: tuple[float, float, float, float, float],
        *, secret: bool,
    ) -> None:  # fmt: skip
        self.secret = secret
        self.data = payload
        if secret:
            nonce = os.urandom(NONCE_BYTES)
            self.data = nonce + _vault.encrypt(nonce, payload, None)
        self.name = name
        self.stored_at, self.fresh_until, self.usable_until, self.distrust_at, self.early_from = (
            times
        )
        self.negative = False

    def serves(self, now: float, told_until: float) -> bool:
        """Say whether it is fresh, and would have been invalidated here if it had to be."""
        return now < self.fresh_until and (now < told_until or now < self.distrust_at)

    def payload(self) -> bytes:
        """Return the packed value."""
        data = self.data
        return _vault.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], None) if self.secret else data


class _Bounded(LRUCache[str, Entry]):
    """Keeps the way back from hashed name to key, because invalidations carry the hash only."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.by_name: dict[str, str] = {}
        self.bytes = 0
        self.evictions = 0

    def __setitem__(self, key: str, entry: Entry) -> None:
        self.pop(key, None)
        super().__setitem__(key, entry)
        self.by_name[entry.name] = key
        self.bytes += len(entry.data)

    def __delitem__(self, key: str) -> None:
        entry = self[key]
        super().__delitem__(key)
        self.by_name.pop(entry.name, None)
        self.bytes -= len(entry.data)

    def popitem(self) -> tuple[str, Entry]:
        self.evictions += 1
        return super().popitem()


class Space:
    """One namespace in this process."""

    def __init__(self, policy: Policy) -> None:
        self.namespace = policy.namespace
        self.lock = Lock()
        self.policy = policy
        self.counts = {layer: counters.zeros() for layer in Layer}
        # Loaders that failed because the database is away are not asked again before this time.
        self.outage_until = 0.0
        self._own = self.counts[Layer.L1]
        self._entries = _Bounded(policy.l1_entries)
        self._flushes = 0
        self._slots = [0] * SLOTS

    def read(self, key: str, now: float, told_until: float) -> Entry | None:
        """Return the entry if it may be served; `told_until` ends our trust in invalidations."""
        with self.lock:
            # Asking first is cheap; cachetools raises twice for what is not there.
            if key not in self._entries:
                self._own[counters.MISSES] += 1
                return None
            entry = self._entries[key]
            if entry.serves(now, told_until):
                self._count_hit(entry)
                return entry
            self._own[counters.MISSES] += 1
            return None

    def held(self, key: str, now: float, told_until: float) -> Entry | None:
        """Return what `read` would, unless it is due for renewal; who gets None asks `read`.

        So a miss is not counted here.
        """
        with self.lock:
            entry = self._entries.get(key)
            if entry is None or now >= entry.early_from or not entry.serves(now, told_until):
                return None
            self._count_hit(entry)
            return entry

    def _count_hit(self, entry: Entry) -> None:
        self._own[counters.HITS] += 1
        if entry.negative:
            self._own[counters.NEGATIVE_HITS] += 1

    def stale(self, key: str, now: float) -> Entry | None:
        """Return what is left of a value after its life, for when nothing newer can be had."""
        with self.lock:
            entry = self._entries.get(key)
        return entry if entry is not None and now < entry.usable_until else None

    def spares(self, now: float) -> bool:
        """Say whether any value is left that `stale` would return."""
        with self.lock:
            # Past the order of use: a look is no use.
            left = (Cache.__getitem__(self._entries, key) for key in self._entries)
            return any(now < entry.usable_until and not entry.negative for entry in left)

    def ticket(self, name: str) -> int:
        """Return a number that changes whenever this name may have been invalidated."""
        return self._flushes + self._slots[_slot(name)]

    def put(
        self, envelope: Envelope, name: str, key: str, *,
        ticket: int, now: float, wall: float, clamp_s: float,
    ) -> bool:  # fmt: skip
        """Keep a value unless its name was invalidated since `ticket` was taken."""
        policy, shift = self.policy, now - wall
        fresh_until = min(envelope.fresh_until + shift, now + policy.l1_ttl_s)
        life = envelope.fresh_until - envelope.stored_at
        early = (
            envelope.fresh_until - life * policy.early_refresh + shift
            if policy.early_refresh and not envelope.negative
            else float("inf")
        )
        stored_at, usable_until = envelope.stored_at + shift, envelope.usable_until + shift
        times = (stored_at, fresh_until, usable_until, now + clamp_s, early)
        entry = Entry(envelope.payload, name, times, secret=policy.secret)
        entry.negative = envelope.negative
        with self.lock:
            if ticket != self.ticket(name):
                return False
            self._entries[key] = entry
        return True

    def invalidate(self, names: list[str]) -> None:
        """Forget these names, and refuse what is on its way to them."""
        with self.lock:
            for name in names:
                self._slots[_slot(name)] += 1
                key = self._entries.by_name.get(name)
                if key is not None:
                    del self._entries[key]

    def flush(self) -> None:
        """Forget everything, and refuse what is on its way."""
        with self.lock:
            self._flushes += 1
            evictions, self._entries = self._entries.evictions, _Bounded(self.policy.l1_entries)
            self._entries.evictions = evictions

    def keys(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """Yield (key, name) of the entries whose key is wanted."""
        with self.lock:
            found = [(key, name) for name, key in self._entries.by_name.items() if wanted(key)]
        yield from found

    def count(self, layer: Layer, what: int, amount: float = 1) -> None:
        """Add to a counter of this namespace."""
        with self.lock:
            self.counts[layer][what] += amount

    def drain(self) -> list[counters.Count]:
        """Return what was counted and start again from zero."""
        drained = []
        with self.lock:
            self._own[counters.EVICTIONS] += self._entries.evictions
            self._entries.evictions = 0
            entries, size = len(self._entries), self._entries.bytes
            for layer, values in self.counts.items():
                mine = (entries, size) if layer is Layer.L1 else (0, 0)
                drained.append(counters.Count(self.namespace, layer, tuple(values), *mine))
                values[:] = counters.zeros()
        return drained

    def peek(self) -> dict[Layer, tuple[float, ...]]:
        """Return what was counted and not yet drained."""
        with self.lock:
            return {layer: tuple(values) for layer, values in self.counts.items()}

    def size(self) -> tuple[int, int]:
        """Return entries and bytes held in this process."""
        with self.lock:
            return len(self._entries), self._entries.bytes


def _slot(name: str) -> int:
    return int(name[:4], 16) % SLOTS
