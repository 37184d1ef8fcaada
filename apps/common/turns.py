"""Whose turn it is: a process has one interpreter, and requests that share it are all late.

A hundred requests at once, run side by side in threads, end together, after all the work there
is and a good deal of handing the interpreter about. One after the other they end one after the
other, and the one whose answer is due first goes first (earliest deadline first: Liu and Layland,
1973). Nobody starves: a deadline that has passed is earlier than any to come.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from django.conf import settings

# Seconds from its arrival within which an answer is due.
HAND_OUT_S: Final = 0.05
CHANGE_S: Final = 0.1
READ_S: Final = 0.2
# Whoever takes longer waits for something or computes at length, and from then on shares.
LONG_S: Final = 0.05


class Turns:
    """Lets coroutines of one event loop run: `at_once` at a time, fewer the more of them wait.

    A turn of more than `long_s` seconds counts no longer, so that those who wait for a database
    or a site hold up nobody.
    """

    def __init__(self, at_once: int, *, long_s: float = LONG_S) -> None:
        self._at_once = at_once
        self._long_s = long_s
        self._running = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @asynccontextmanager
    async def turn(self, due_s: float) -> AsyncIterator[None]:
        """Wait until it is this one's turn; `due_s` is in how many seconds it should be done."""
        loop = asyncio.get_running_loop()
        await self._wait(loop, due_s)
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._end()

        long = loop.call_later(self._long_s, end)
        try:
            yield
        finally:
            long.cancel()
            end()

    async def _wait(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        mine: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (loop.time() + due_s, next(self._numbers), mine))
        self._let_in()
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._end()  # it had come just now, and nobody is there to use it
            raise

    def _end(self) -> None:
        self._running -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._running < max(1, self._at_once - len(self._waiting) + 1):
            _due, _number, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                self._running += 1


TURNS: Final = Turns(settings.LATCHKEY_TURNS)
