"""Values of the shared layer that could not be read, and when it last happened."""

from typing import Final

from apps.common import clock

# An old mishap is no reason for an alarm.
REMEMBERED_S: Final = 300.0


class Unreadable:
    """Counts by reason. A count may miss one under threads; it is never too high."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def note(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self._last[reason] = clock.monotonic()

    def recent(self) -> list[str]:
        """Return the reasons of the last five minutes."""
        now = clock.monotonic()
        return [reason for reason, at in sorted(self._last.items()) if now - at < REMEMBERED_S]
