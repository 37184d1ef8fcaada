"""Keeps write transactions short, and leaves room for others between them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from django.db import OperationalError

TARGET_S = 0.02
SMALLEST, LARGEST = 20, 1_000
LEAST_PAUSE_S = 0.01
PAUSE_SHARE = 1.5
TRIES = 25

T = TypeVar("T")


class Pace:
    """Finds the size of batch that takes `TARGET_S`, and pauses after each.

    The pause is longer than the batch: whoever waits for SQLite's lock asks again every 25 to
    100 ms only, and must find it free.
    """

    def __init__(self) -> None:
        self.size = 100
        self.steps = 0
        self.longest_s = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one transaction, adapt the size of the next, and pause, also after a failed one."""
        began = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - began
            self.steps += 1
            self.longest_s = max(self.longest_s, took_s)
            # Grow slowly, shrink at once: one slow disk flush must not be met by a larger batch.
            fitting = int(self.size * min(1.3, TARGET_S / max(took_s, 1e-6)))
            self.size = max(SMALLEST, min(fitting, LARGEST))
            time.sleep(max(LEAST_PAUSE_S, min(took_s * PAUSE_SHARE, 1.0)))


def insist(act: Callable[[], T]) -> T:
    """Return what `act` does, tried `TRIES` times with pauses; raises the last OperationalError.

    For what gives up after a moment on a lock, because writers queue up behind it.
    """
    pace = Pace()
    for _ in range(TRIES - 1):
        with suppress(OperationalError), pace.step():
            return act()
    return act()
