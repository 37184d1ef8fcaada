"""Keeps callers away from a Redis that fails, hangs or drags.

The operation that finds out pays at most its patience; the others pay nothing until a probe, made
in the background, has found Redis well again. Reads and writes are judged apart: a read-only or
full Redis still serves what it holds.
"""

from collections.abc import Callable
from datetime import datetime
from threading import Event, Lock
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from apps.common import clock
from apps.common.errors import CacheFailed

T = TypeVar("T")

# Shares of the time-out. One call this slow, or several that are not prompt and
# add up, and Redis is slower than doing without it. A probe has to be answered promptly, or a Redis
# that is steadily slow would be let in again and again.
SLOW_SHARE: Final = 2 / 3
PROMPT_SHARE: Final = 2 / 15
DRAG_SHARE: Final = 4 / 5
REFILL_SHARE_PER_S: Final = 1 / 3
RETRY_EVERY_S: Final = 0.5
UNPROVEN: Final = "unproven"

_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (redis_errors.ReadOnlyError, "read_only"),
    (redis_errors.OutOfMemoryError, "out_of_memory"),
    (redis_errors.NoPermissionError, "no_permission"),
    (redis_errors.AuthenticationError, "authentication"),
    (redis_errors.BusyLoadingError, "loading"),
    (redis_errors.MasterDownError, "no_primary"),
    (redis_errors.TimeoutError, "timeout"),
    (redis_errors.ConnectionError, "connection"),
    (OSError, "connection"),
)
_WRITES_ONLY: Final = {"read_only", "out_of_memory", "not_persisting", "no_replicas"}
_TEXTS: Final = {
    "OOM ": "out_of_memory",
    "READONLY": "read_only",
    "NOPERM": "no_permission",
    "MISCONF": "not_persisting",
    "NOREPLICAS": "no_replicas",
    "BUSY ": "busy",
}
FAILURES: Final = (redis_errors.RedisError, OSError)


class Away(CacheFailed):
    """The shared layer cannot be used now; never reaches a caller of the services."""

    code = "cache_away"


class Patience:
    """How long one operation may still wait for Redis, in seconds; all its calls draw on it."""

    __slots__ = ("left_s", "prompt_s")

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s
        self.prompt_s = left_s * PROMPT_SHARE


def reason_of(error: BaseException) -> str:
    """Return the short code for an error of the Redis client."""
    text = str(error)
    if "No connection available" in text:
        return "pool_exhausted"
    for prefix, reason in _TEXTS.items():
        if prefix in text:
            return reason
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "error")


class Guard:
    """The judgement of one process on its Redis. Starts as `unproven`: nothing goes through."""

    def __init__(self, timeout_s: float, on_worse: Callable[[str], None]) -> None:
        self.timeout_s = timeout_s
        self._on_worse = on_worse
        self.prompt_s = timeout_s * PROMPT_SHARE
        self.readable = False
        self.writable = False
        self.reason = UNPROVEN
        self.since: datetime = clock.now()
        self._judged = Event()
        self._lock = Lock()
        self._drag_s = 0.0
        self._drag_at = 0.0
        self._retry_at = 0.0

    def run(
        self,
        call: Callable[[float], T],
        patience: Patience,
        *,
        write: bool = False,
        urgent: bool = False,
    ) -> T:
        """Return `call(until)`, where `until` (monotonic) is when the patience is over.

        Raises Away, at once if Redis is known to be unwell or the patience is over. `urgent`
        writes, such as deletes, are tried as long as Redis can be reached at all.
        """
        if not self.readable or (write and not urgent and not self.writable):
            raise Away(self.reason)
        if patience.left_s <= 0:
            raise Away("slow")
        began = clock.monotonic()
        try:
            result = call(began + patience.left_s)
        except FAILURES as error:
            reason = reason_of(error)
            self._judge(reason, write=write)
            raise Away(reason) from error
        finally:
            took = clock.monotonic() - began
            patience.left_s -= took
        if took > self.prompt_s:
            self._drag(took)
        return result

    def await_judgement(self, patience: Patience) -> None:
        """Wait for the first probe of this process, once: after that Redis counts as too slow."""
        began = clock.monotonic()
        if not self._judged.wait(patience.left_s):
            self.suspect("timeout")
        patience.left_s -= clock.monotonic() - began

    def proven(self, *, writable: bool, reason: str = "") -> None:
        """Let calls through: a probe has succeeded."""
        self._become(readable=True, writable=writable, reason=reason)

    def suspect(self, reason: str) -> None:
        """Let nothing through until a probe has succeeded."""
        self._become(readable=False, writable=False, reason=reason)

    def may_probe(self) -> bool:
        """Say whether it is time for another probe, to one caller only."""
        if self.readable and self.writable:
            return False
        now = clock.monotonic()
        with self._lock:
            if now < self._retry_at:
                return False
            self._retry_at = now + RETRY_EVERY_S
            return True

    def _judge(self, reason: str, *, write: bool) -> None:
        # Full pools are our own load; single odd answers are no reason to give Redis up.
        if reason in {"pool_exhausted", "error"}:
            return
        if write and (reason in _WRITES_ONLY or reason == "no_permission"):
            self._become(readable=self.readable, writable=False, reason=reason)
        else:
            self.suspect(reason)

    def _become(self, *, readable: bool, writable: bool, reason: str) -> None:
        with self._lock:
            first = self.reason == UNPROVEN and not writable
            worse = self.readable > readable or self.writable > writable or first
            if self.readable != readable or self.reason != reason:
                self.since = clock.now()
            self.readable, self.writable, self.reason = readable, writable, reason
        self._judged.set()
        if worse:
            self._on_worse(reason)

    def _drag(self, took_s: float) -> None:
        now = clock.monotonic()
        with self._lock:
            refilled = (now - self._drag_at) * REFILL_SHARE_PER_S * self.timeout_s
            self._drag_s, self._drag_at = max(self._drag_s - refilled, 0.0) + took_s, now
            slow = max(took_s / SLOW_SHARE, self._drag_s / DRAG_SHARE) >= self.timeout_s
        if slow:
            self.suspect("slow")
