"""Database work for coroutines: a few threads of our own, each with its own connection.

asgiref's default is one shared thread; a login waiting for a row would hold up all the others.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 4


class DatabaseThreads:
    """Runs functions that use the ORM outside the event loop."""

    def __init__(self, *, name: str, threads: int = THREADS) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread and return what it returns."""

        def call() -> T:
            close_old_connections()
            try:
                return function(*args, **kwargs)
            finally:
                close_old_connections()

        # The id of the request goes with the work: audit lines and log lines carry it.
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, call)

    def close(self) -> None:
        """Let the threads finish what they do, and end them."""
        self._executor.shutdown(wait=True)


_shared: dict[int, DatabaseThreads] = {}


def shared() -> DatabaseThreads:
    """Return the threads of this process, made on first use; a forked child makes its own."""
    pid = os.getpid()
    if pid not in _shared:
        _shared.setdefault(pid, DatabaseThreads(name="db"))
    return _shared[pid]
