"""Keys this process has checked lately.

Everything is keyed by digest, never by the key. Both caches are bounded, so wrong keys cannot
grow memory; a budget bounds how often wrong keys reach the database.
"""

import os
import threading
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from cachetools import Cache, LRUCache

from apps.access.contracts import Principal
from apps.common import clock

MAX_KNOWN: Final = 4_096
MAX_WRONG: Final = 8_192
WRONG_FOR_S: Final = 2.0
LOOKUPS_PER_S: Final = 20.0
LOOKUPS_AT_ONCE: Final = 40.0
DIRECTORY_FOR_S: Final = 1.0
CONFIRMED_TOGETHER: Final = 100


@dataclass(frozen=True, slots=True)
class Known:
    """A principal, and the monotonic time the database last confirmed it."""

    principal: Principal
    confirmed_at: float

    def serves(self, *, max_age_s: float, at: datetime) -> bool:
        """Say whether this may still answer, by its age and by the key's own expiry."""
        expires_at = self.principal.expires_at
        young = clock.monotonic() - self.confirmed_at < max_age_s
        return young and (expires_at is None or at < expires_at)


class KeyCache:
    """Known keys, wrong keys, and the budget of look-ups for keys never seen; thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, with a new lock: the old one may have been held across a fork."""
        self._lock = threading.Lock()
        self._known: LRUCache[str, Known] = LRUCache(MAX_KNOWN)
        self._used: set[str] = set()  # since they were confirmed
        self._wrong: LRUCache[str, float] = LRUCache(MAX_WRONG)
        self._lookups = LOOKUPS_AT_ONCE
        self._refilled_at = 0.0
        self.directory_lock = threading.Lock()
        self.directory: tuple[float, frozenset[str]] | None = None

    def known(self, digest: str) -> Known | None:
        with self._lock:
            known = self._known.get(digest)
            if known:
                self._used.add(digest)
            return known

    def serves_any(self, *, max_age_s: float) -> bool:
        """Say whether some key was confirmed within `max_age_s`."""
        before = clock.monotonic() - max_age_s
        with self._lock:
            # Past the order of use: a look is no use.
            known = (Cache.__getitem__(self._known, digest) for digest in self._known)
            return any(one.confirmed_at > before for one in known)

    def due(self, *, age_s: float) -> list[str]:
        """Return keys that came since they were confirmed `age_s` ago; not all if they are many."""
        before = clock.monotonic() - age_s
        with self._lock:
            self._used = {one for one in self._used if one in self._known}  # some were dropped
            due = (one for one in self._used if self._known[one].confirmed_at <= before)
            return list(islice(due, CONFIRMED_TOGETHER))

    def is_wrong(self, digest: str) -> bool:
        with self._lock:
            return clock.monotonic() < self._wrong.get(digest, 0.0)

    def remember(self, digest: str, principal: Principal, *, confirmed_at: float) -> None:
        """Keep a principal as of the time its look-up began."""
        with self._lock:
            self._wrong.pop(digest, None)
            self._used.discard(digest)
            self._known[digest] = Known(principal, confirmed_at)

    def remember_wrong(self, digest: str) -> None:
        with self._lock:
            self._known.pop(digest, None)
            self._wrong[digest] = clock.monotonic() + WRONG_FOR_S

    def forget(self, digest: str) -> None:
        """Drop what is known of one key."""
        with self._lock:
            self._known.pop(digest, None)
            self._wrong.pop(digest, None)

    def take_lookup(self) -> bool:
        """Take one look-up from the budget; False when strangers have used it up."""
        with self._lock:
            now = clock.monotonic()
            refill = (now - self._refilled_at) * LOOKUPS_PER_S
            self._lookups = min(LOOKUPS_AT_ONCE, self._lookups + refill)
            self._refilled_at = now
            if self._lookups < 1:
                return False
            self._lookups -= 1
            return True

    def __len__(self) -> int:
        with self._lock:
            return len(self._known) + len(self._wrong)


CACHE: Final = KeyCache()
os.register_at_fork(after_in_child=CACHE.reset)
