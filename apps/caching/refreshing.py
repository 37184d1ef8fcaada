"""Renews values in the background in the last share of their lives, while they are served."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Final

import structlog

from apps.caching.driving import AsyncLoader, Loader, awalk, walk
from apps.caching.keys import digest
from apps.caching.local import Space
from apps.caching.resolving import Wanted, renew
from apps.common.database import fresh_connections

if TYPE_CHECKING:
    from apps.caching.runtime import Runtime

log = structlog.get_logger(__name__)

WORKERS: Final = 2


class Refreshing:
    """The renewals under way in one process; made anew after a fork with the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = Lock()
        self._under_way: set[tuple[str, str]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, space: Space, key: str, wanted: Wanted, loader: Loader) -> None:
        """Renew a value in a thread, unless this process does so already."""
        if self._begin(space, key):
            if self._threads is None:
                self._threads = ThreadPoolExecutor(WORKERS, "caching-refresh")
            self._threads.submit(self._run, space, key, wanted, loader)

    def astart(self, space: Space, key: str, wanted: Wanted, loader: AsyncLoader) -> None:
        """Renew a value in a task of the running loop, unless this process does so already."""
        if self._begin(space, key):
            task = asyncio.ensure_future(self._arun(space, key, wanted, loader))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, space: Space, key: str) -> bool:
        with self._lock:
            if (space.namespace, key) in self._under_way:
                return False
            self._under_way.add((space.namespace, key))
            return True

    def _end(self, space: Space, key: str) -> None:
        with self._lock:
            self._under_way.discard((space.namespace, key))

    def _run(self, space: Space, key: str, wanted: Wanted, loader: Loader) -> None:
        try:
            with fresh_connections():
                walk(renew(self._runtime, space, key, digest(space.namespace, key), wanted), loader)
        except Exception as error:  # noqa: BLE001 — nobody waits; the value is still served
            self._missed(space, error)
        finally:
            self._end(space, key)

    async def _arun(self, space: Space, key: str, wanted: Wanted, loader: AsyncLoader) -> None:
        try:
            name = digest(space.namespace, key)
            await awalk(renew(self._runtime, space, key, name, wanted), loader)
        except Exception as error:  # noqa: BLE001 — nobody waits; the value is still served
            self._missed(space, error)
        finally:
            self._end(space, key)

    def _missed(self, space: Space, error: Exception) -> None:
        log.warning("cache_refresh_failed", namespace=space.namespace, error=type(error).__name__)
