"""What happened to the shared layer, and when it last did; in this process, and as a metric."""

from threading import Lock
from typing import Final

from apps.common import clock, events

CORRUPT: Final = "corrupt_values"
FOREIGN: Final = "unknown_encryption_key"
WIPED: Final = "wiped"
RESTARTED: Final = "restarted"
# What cannot be seen any more a moment later stays a reason for a while; an old mishap is none.
LASTING: Final = (CORRUPT, FOREIGN)
REMEMBERED_S: Final = 300.0


class Incidents:
    """Counts by reason: the short codes of `guard.reason_of`, and the ones above."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._last: dict[str, float] = {}
        self._lock = Lock()

    def note(self, reason: str) -> None:
        with self._lock:
            self.counts[reason] = self.counts.get(reason, 0) + 1
            self._last[reason] = clock.monotonic()
        events.cache_incident(reason=reason)

    def recent(self) -> list[str]:
        """Return what was unreadable in the last five minutes."""
        now = clock.monotonic()
        return [
            reason
            for reason in LASTING
            if reason in self._last and now - self._last[reason] < REMEMBERED_S
        ]
