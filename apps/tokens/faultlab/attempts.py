"""The record of every login a site has seen."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MAX_KEPT: Final = 200_000
"""Logins kept for a site; older ones leave the log, never the counts."""
MAX_NOTE: Final = 200

_SALT: Final = os.urandom(32)
_STARTED: Final = time.monotonic()


def now_s() -> float:
    """Return the seconds since the lab started."""
    return time.monotonic() - _STARTED


def fingerprint(secret: str) -> str:
    """Return a hash of a secret that means nothing outside this process."""
    return hashlib.blake2b(secret.encode(), key=_SALT, digest_size=8).hexdigest()


@dataclass(slots=True, eq=False)
class Attempt:
    """One login, from the first sign of its request to the last byte of its answer."""

    sequence: int
    flow: str
    note: str
    drop: Callable[[], None] = field(repr=False)
    """Cuts the connection; used when the lab is reset under a login."""
    start_s: float = field(default_factory=now_s)
    end_s: float | None = None
    account: str = ""
    secret: str = ""
    fault: str = ""
    outcome: str = ""
    status: int | None = None
    disconnected: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "sequence": self.sequence,
            "flow": self.flow,
            "account": self.account,
            "start_s": round(self.start_s, 6),
            "end_s": None if self.end_s is None else round(self.end_s, 6),
            "fault": self.fault,
            "outcome": self.outcome,
            "status": self.status,
            "secret": self.secret,
            "disconnected": self.disconnected,
            "note": self.note,
        }


class AttemptLog:
    """The logins of one site in the order they began, and those still running."""

    def __init__(self) -> None:
        self._kept: deque[Attempt] = deque(maxlen=MAX_KEPT)
        self._last = 0
        self.running: set[Attempt] = set()

    def begin(self, flow: str, note: str, drop: Callable[[], None]) -> Attempt:
        self._last += 1
        attempt = Attempt(self._last, flow, note[:MAX_NOTE], drop)
        self._kept.append(attempt)
        self.running.add(attempt)
        return attempt

    def end(self, attempt: Attempt) -> None:
        attempt.end_s = now_s()
        self.running.discard(attempt)

    def as_dict(self) -> dict[str, Any]:
        """Return `{"dropped": how many left the log, "logins": [...]}`."""
        return {
            "dropped": self._last - len(self._kept),
            "logins": [attempt.as_dict() for attempt in self._kept],
        }
