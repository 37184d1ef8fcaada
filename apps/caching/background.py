"""Two threads a process: one listens to Redis, one looks at the database.

They are apart because a database that is away may hold its thread for seconds, and leases must be
renewed and invalidations heard meanwhile.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from apps.caching import usage
from apps.caching.guard import FAILURES, Away, reason_of
from apps.caching.keys import EVERYTHING
from apps.common import clock

if TYPE_CHECKING:
    from apps.caching.runtime import Runtime
    from apps.caching.shared import Shared

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
PING_EVERY_S: Final = 1.0
# Silence for this long and we may have missed an invalidation: entries live 5 s at most again.
TRUST_S: Final = 2.5
LOOK_EVERY_S: Final = 2.0
# Without Redis, deletes reach the others through the table only.
LOOK_TRUST_S: Final = 4.0
FLUSH_EVERY_S: Final = 5.0


class Background:
    """The threads of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = Event()
        self._look = Event()
        self._flushed_at = clock.monotonic()
        self.listening = False
        names = {"caching-database": self._watch_database}
        if runtime.shared is not None:
            names["caching-redis"] = self._watch_redis
        self._threads = [
            Thread(target=target, name=name, daemon=True) for name, target in names.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        """Let both threads end."""
        self._stop.set()
        self._look.set()

    def stop(self) -> None:
        """End both threads; what was counted is written."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join(timeout=3)

    def look_now(self) -> None:
        """Read policies and generations at once."""
        self._look.set()

    # the database ------------------------------------------------------------------------

    def _watch_database(self) -> None:
        try:
            while not self._stop.is_set():
                self._look.clear()
                self._guarded(self._look_at_rows)
                if clock.monotonic() - self._flushed_at >= FLUSH_EVERY_S:
                    self._flushed_at = clock.monotonic()
                    self._guarded(self._flush)
                self._look.wait(LOOK_EVERY_S)
            self._guarded(self._flush)
        finally:
            connections.close_all()

    def _guarded(self, work: Any) -> None:
        try:
            close_old_connections()
            work()
        except (DatabaseError, InterfaceError) as error:
            log.debug("cache_database_away", error=type(error).__name__)
            connections.close_all()
        except Exception:
            # A thread that dies of a surprise would leave this process deaf without a sign.
            log.exception("cache_background_failed")

    def _look_at_rows(self) -> None:
        runtime, began = self._runtime, clock.monotonic()
        runtime.generations.settle()
        runtime.generations.poll()
        runtime.policies.poll()
        if runtime.shared is None:
            runtime.told_until = began + LOOK_TRUST_S

    def _flush(self) -> None:
        usage.flush(self._runtime)

    # Redis -------------------------------------------------------------------------------

    def _watch_redis(self) -> None:
        shared = self._runtime.shared
        assert shared is not None  # noqa: S101 — the thread exists only with a shared layer
        shared.probe()
        while not self._stop.is_set():
            try:
                self._listen(shared)
            except FAILURES as error:
                shared.guard.suspect(reason_of(error))
            except Exception:
                log.exception("cache_background_failed")
            self.listening = False
            # A server that came back may hold what was deleted: prove it before it is read.
            if not self._stop.is_set() and not self._probe(shared):
                self._stop.wait(TICK_S)

    def _probe(self, shared: Shared) -> bool:
        before = shared.guard.readable
        well = shared.probe()
        if well and not before:
            # Whatever Redis could not be told meanwhile is in the table …
            self.look_now()
            self._make_up_for(shared)
        return well

    def _make_up_for(self, shared: Shared) -> None:
        """… or, where the database was down as well, in this process alone."""
        runtime = self._runtime
        try:
            for namespace in sorted(runtime.generations.pending):
                shared.clear(namespace, runtime.message("c", namespace), shared.patience())
        except Away:
            log.warning("cache_clear_untold", reason=shared.guard.reason)

    def _listen(self, shared: Shared) -> None:
        pool = shared.pool
        # A connection of its own: blocking reads must not hold one of the callers'.
        own = redis.ConnectionPool(
            connection_class=pool.connection_class, max_connections=2, **pool.connection_kwargs
        )
        try:
            with redis.Redis(connection_pool=own).pubsub() as pubsub:  # type: ignore[no-untyped-call]
                pubsub.subscribe(shared.channel)
                self._attend(shared, pubsub)
        finally:
            own.disconnect()

    def _attend(self, shared: Shared, pubsub: Any) -> None:
        heard_at = clock.monotonic()
        pinged_at = 0.0
        while not self._stop.is_set():
            message = pubsub.get_message(timeout=TICK_S)
            now = clock.monotonic()
            while message is not None:
                heard_at = self._handle(message, now, heard_at)
                message = pubsub.get_message(timeout=0)
            if now - heard_at > TRUST_S:
                raise redis.TimeoutError("The listener hears nothing.")
            if now - pinged_at >= PING_EVERY_S:
                # Redis answers in order: after the answer everything published before is heard.
                pubsub.ping()
                pinged_at = now
                self._check_life(shared)
            self._runtime.leases.renew(shared)
            if shared.guard.may_probe():
                self._probe(shared)

    def _check_life(self, shared: Shared) -> None:
        try:
            shared.check_life()
        except Away:
            log.debug("cache_life_unknown", reason=shared.guard.reason)

    def _handle(self, message: dict[str, Any], now: float, heard_at: float) -> float:
        runtime = self._runtime
        if message["type"] == "message":
            runtime.hear(bytes(message["data"]).decode("utf-8", "replace"))
            return heard_at
        if message["type"] == "subscribe":
            # Whatever was said before this moment was missed.
            runtime.forget_space(EVERYTHING)
            self.listening = True
            self.look_now()
        runtime.told_until = now + TRUST_S
        return now
