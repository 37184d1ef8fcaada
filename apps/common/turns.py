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
    """Lets `at_once` coroutines of one event loop run at a time, the one due first before others.

    A turn of more than `long_s` seconds counts no longer, so that those who wait for a database
    or a site hold up nobody.
    """

    def __init__(self, at_once: int, *, long_s: float = LONG_S) -> None:
        self._free = at_once
        self._long_s = long_s
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @asynccontextmanager
    async def turn(self, due_s: float) -> AsyncIterator[None]:
        """Wait until it is this one's turn; `due_s` is in how many seconds it should be done."""
        loop = asyncio.get_running_loop()
        await self._wait(loop, due_s)
        passed_on = False

        def pass_on() -> None:
            nonlocal passed_on
            if not passed_on:
                passed_on = True
                self._pass_on()

        long = loop.call_later(self._long_s, pass_on)
        try:
            yield
        finally:
            long.cancel()
            pass_on()

    async def _wait(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (loop.time() + due_s, next(self._numbers), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_on()  # it had come just now, and nobody is there to use it
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _due, _number, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


TURNS: Final = Turns(settings.LATCHKEY_TURNS)
