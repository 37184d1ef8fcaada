"""Keeps callers away from a Redis that fails, hangs or drags.

The first call that finds out pays at most the socket time-out; the others pay nothing until a
probe, made in the background, has found Redis well again. Reads and writes are judged apart: a
read-only or full Redis still serves what it holds.
"""

import time
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from apps.common import clock
from apps.common.errors import CacheFailed

T = TypeVar("T")

# One call this slow, or several that add up, and Redis is slower than doing without it.
SLOW_CALL_S: Final = 0.1
DRAG_FROM_S: Final = 0.02
DRAG_BUDGET_S: Final = 0.12
DRAG_REFILL_PER_S: Final = 0.05
RETRY_EVERY_S: Final = 0.5

_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (redis_errors.ReadOnlyError, "read_only"),
    (redis_errors.OutOfMemoryError, "out_of_memory"),
    (redis_errors.NoPermissionError, "no_permission"),
    (redis_errors.AuthenticationError, "authentication"),
    (redis_errors.BusyLoadingError, "loading"),
    (redis_errors.TimeoutError, "timeout"),
    (redis_errors.ConnectionError, "connection"),
    (OSError, "connection"),
)
_WRITES_ONLY: Final = {"read_only", "out_of_memory"}
_TEXTS: Final = {"OOM ": "out_of_memory", "READONLY": "read_only", "NOPERM": "no_permission"}
FAILURES: Final = (redis_errors.RedisError, OSError)


class Away(CacheFailed):
    """The shared layer cannot be used now; never reaches a caller of the services."""

    code = "cache_away"


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

    def __init__(self) -> None:
        self.readable = False
        self.writable = False
        self.reason = "unproven"
        self.since: datetime = clock.now()
        self._lock = Lock()
        self._drag_s = 0.0
        self._drag_at = 0.0
        self._retry_at = 0.0

    def run(self, call: Callable[[], T], *, write: bool = False, urgent: bool = False) -> T:
        """Return `call()`; raises Away, at once if Redis is known to be unwell.

        `urgent` writes, such as deletes, are tried as long as Redis can be reached at all.
        """
        if not self.readable or (write and not urgent and not self.writable):
            raise Away(self.reason)
        began = time.monotonic()
        try:
            result = call()
        except FAILURES as error:
            reason = reason_of(error)
            self._judge(reason, write=write)
            raise Away(reason) from error
        took = time.monotonic() - began
        if took > DRAG_FROM_S:
            self._drag(took)
        return result

    def proven(self, *, writable: bool, reason: str = "") -> None:
        """Let calls through: a probe has succeeded."""
        with self._lock:
            if not self.readable or self.reason != reason:
                self.since = clock.now()
            self.reason = reason
            self._drag_s = 0.0
            self.readable, self.writable = True, writable

    def suspect(self, reason: str) -> None:
        """Let nothing through until a probe has succeeded."""
        with self._lock:
            if self.readable or self.reason != reason:
                self.since = clock.now()
            self.readable = self.writable = False
            self.reason = reason

    def may_probe(self) -> bool:
        """Say whether it is time for another probe, to one caller only."""
        if self.readable and self.writable:
            return False
        now = time.monotonic()
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
            with self._lock:
                self.writable, self.reason, self.since = False, reason, clock.now()
            return
        self.suspect(reason)

    def _drag(self, took_s: float) -> None:
        now = time.monotonic()
        with self._lock:
            spent = self._drag_s - (now - self._drag_at) * DRAG_REFILL_PER_S
            self._drag_s, self._drag_at = max(spent, 0.0) + took_s, now
            slow = took_s >= SLOW_CALL_S or self._drag_s >= DRAG_BUDGET_S
        if slow:
            self.suspect("slow")
