"""The leases this process holds while it loads, so that they can be renewed."""

from threading import Lock
from typing import Final

from apps.caching.guard import Away
from apps.caching.shared import Lease, Shared
from apps.common import clock

# A killed loader delays the others by this long and no more.
LEASE_S: Final = 2.0
RENEW_EVERY_S: Final = 0.5


class HeldLeases:
    """Leases by token, each with the time (monotonic) up to which it may be renewed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[bytes, tuple[Lease, float]] = {}
        self._next = 0.0

    def hold(self, lease: Lease, *, deadline: float) -> None:
        with self._lock:
            self._held[lease.token] = (lease, deadline)

    def drop(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease.token, None)

    def renew(self, shared: Shared) -> None:
        """Renew what is due. A lease past its loader's deadline is left to end."""
        now = clock.monotonic()
        if now < self._next or not self._held:
            return
        self._next = now + RENEW_EVERY_S
        with self._lock:
            held = list(self._held.values())
        for lease, deadline in held:
            try:
                standing = now < deadline and shared.renew(
                    lease, lease_s=min(LEASE_S, deadline - now)
                )
            except Away:
                return
            if not standing:
                self.drop(lease)
