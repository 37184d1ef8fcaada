"""Measurements: recorded in a few microseconds, kept in this process, handed on every few seconds.

`count` and `observe` may be called from any thread and never fail or wait for a database. Which
rows they become is the business of the sink that apps.performance registers. Memory is bounded:
past a number of series, new names of sites and labels are counted as `other`.
"""

import math
import os
import re
import threading
import time
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Final, NamedTuple

import structlog

from apps.common.scale import COUNT_BUCKET, LARGEST, bucket_of

log = structlog.stdlib.get_logger(__name__)

FLUSH_EVERY_S: Final = 3.0
EXIT_PATIENCE_S: Final = 3.0
OTHER: Final = "other"
# Bounds of one process: pairs of site and label for a metric, metrics, and rows not handed on.
SERIES_A_METRIC: Final = 1_000
METRICS: Final = 200
ROWS: Final = 20_000
METRIC_LENGTH: Final = 64
NAME_LENGTH: Final = 128
# Far from what a column holds, so that rows may still be added up.
MOST: Final = 2**53
# No text for PostgreSQL, and half a pair is none for SQLite either.
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")

Key = tuple[str, str, str, int]
# n, total, lowest, highest
Cell = list[float]


class Row(NamedTuple):
    """What one process measured of one bucket in one minute; `minute` is the start, epoch seconds.

    In rows of `count` the bucket is COUNT_BUCKET, `n` the count, and the rest is 0.
    """

    minute: int
    metric: str
    site: str
    label: str
    bucket: int
    n: int
    total: float
    lowest: float
    highest: float


class NotStored(Exception):
    """Raised by a sink when the rows surely were not stored: they may be handed on again."""


class Refused(Exception):
    """Raised by a sink that stored all but `rows` rows, which would not be taken later either."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


Sink = Callable[[list[Row]], None]


class Recorder:
    """The measurements of one process that are not handed on yet."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.dropped = 0
        self._now = now
        self._sink: Sink | None = None
        self._on_tick: Callable[[], None] | None = None
        self._background = False
        self._known: dict[str, set[tuple[str, str]]] = {}
        self._reset()

    def count(self, metric: str, n: int = 1, *, site: str = "", label: str = "") -> None:
        """Add `n` to a count."""
        key = (metric, site, label, COUNT_BUCKET)
        with self._lock:
            if not self._since <= self._now() < self._until:
                self._turn()
            cell = self._cells.get(key)
            if cell is None:
                cell = self._cell(key)
            cell[0] += n

    def observe(self, metric: str, value: float, *, site: str = "", label: str = "") -> None:
        """Record one value, a duration in seconds for example; what is not finite is left out.

        What is beyond LARGEST counts as that.
        """
        if not -LARGEST <= value <= LARGEST:
            return self._extreme(metric, value, site=site, label=label)
        key = (metric, site, label, bucket_of(value))
        with self._lock:
            if not self._since <= self._now() < self._until:
                self._turn()
            cell = self._cells.get(key)
            if cell is None:
                cell = self._cell(key)
            cell[0] += 1
            cell[1] += value
            if value < cell[2]:
                cell[2] = value
            if value > cell[3]:
                cell[3] = value
        return None

    def set_sink(
        self,
        sink: Sink | None,
        *,
        background: bool = False,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Say who stores the rows; with `background` a thread hands them on, made on first use.

        `on_tick` is called by the same thread, every FLUSH_EVERY_S.
        """
        self._sink, self._background, self._on_tick = sink, background, on_tick

    def flush(self) -> int:
        """Hand on what was measured; return the number of rows. Raises nothing.

        Where the sink cannot know whether its commit happened, the rows are dropped: a number
        told twice is worse than one told never.
        """
        if self._sink is None:
            return 0
        with self._flushing:
            taken = self._take()
            rows = [
                Row(minute, *key, _whole(cell[0]), *_finite(cell))
                for minute, cells in sorted(taken.items())
                for key, cell in sorted(cells.items())
            ]
            if not rows:
                return 0
            try:
                self._sink(rows)
            except NotStored as error:
                self._keep(taken)
                log.debug("measurements_kept", rows=len(rows), reason=str(error))
                return 0
            except Refused as error:
                self.dropped += error.rows
                return len(rows) - error.rows
            except Exception as error:  # noqa: BLE001 - whoever measures must not fail
                self.dropped += len(rows)
                log.warning("measurements_dropped", rows=len(rows), error=type(error).__name__)
                return 0
            return len(rows)

    def pending(self) -> int:
        """Return the number of rows that are not handed on yet."""
        with self._lock:
            return len(self._cells) + sum(map(len, self._kept.values()))

    def begin(self) -> None:
        """Start the thread now: its process may have nothing to measure for long."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """Hand on what is left, in the thread that has a connection of its own, and end it."""
        thread = self._thread
        if thread is None:
            return
        self._stop.set()
        thread.join(EXIT_PATIENCE_S)

    def _reset(self) -> None:
        """Begin with nothing: in a forked child what is here belongs to the parent."""
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._cells: dict[Key, Cell] = {}
        self._since = self._until = 0
        self._kept: dict[int, dict[Key, Cell]] = {}

    def _turn(self) -> None:
        """Begin the cells of another minute: nothing else does while a flush waits for its answer.

        Called with the lock held.
        """
        self._put_by()
        self._bound()
        self._since = int(self._now()) // 60 * 60
        self._until = self._since + 60

    def _put_by(self) -> None:
        cells, self._cells = self._cells, {}
        if cells:
            _merge(self._kept.setdefault(self._since, {}), cells)

    def _cell(self, key: Key) -> Cell:
        """Return the cell of a key that is not there yet; called with the lock held."""
        if not self._cells:
            self._start()
        metric, site, label = (_UNSTORABLE.sub("?", name) for name in key[:3])
        metric, bucket = metric[:METRIC_LENGTH], key[3]
        known = self._known.get(metric)
        if known is None:
            if len(self._known) >= METRICS:
                metric = OTHER
            known = self._known.setdefault(metric, set())
        if (site, label) not in known:
            if len(known) >= SERIES_A_METRIC or max(len(site), len(label)) > NAME_LENGTH:
                site, label = OTHER if site else "", OTHER if label else ""
            known.add((site, label))
        key = (metric, site, label, bucket)
        cell = self._cells.get(key)
        if cell is None:
            cell = [0, 0.0, math.inf, -math.inf]
            if len(self._cells) < ROWS:
                self._cells[key] = cell
            else:
                self.dropped += 1
        return cell

    def _extreme(self, metric: str, value: float, *, site: str, label: str) -> None:
        if -math.inf < value < math.inf:
            kept = LARGEST if value > 0 else -LARGEST
            self.observe(metric, kept, site=site, label=label)

    def _take(self) -> dict[int, dict[Key, Cell]]:
        with self._lock:
            self._put_by()
            taken, self._kept = self._kept, {}
        return taken

    def _keep(self, taken: dict[int, dict[Key, Cell]]) -> None:
        with self._lock:
            for minute, cells in taken.items():
                _merge(self._kept.setdefault(minute, {}), cells)
            self._bound()

    def _bound(self) -> None:
        while sum(map(len, self._kept.values())) > ROWS:
            self.dropped += len(self._kept.pop(min(self._kept)))

    def _start(self) -> None:
        if self._background and self._thread is None:
            # multiprocessing ends its children without atexit, but runs these.
            Finalize(None, self.close, exitpriority=10)
            self._thread = threading.Thread(target=self._run, name="measure", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(FLUSH_EVERY_S)
            self.flush()
            if self._on_tick is not None and not stopped:
                self._tick(self._on_tick)

    def _tick(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            # The thread goes on: it serves everything else that is measured.
            log.exception("measure_tick_failed")


def _merge(into: dict[Key, Cell], cells: dict[Key, Cell]) -> None:
    for key, cell in cells.items():
        there = into.setdefault(key, cell)
        if there is not cell:
            there[0] += cell[0]
            there[1] += cell[1]
            there[2] = min(there[2], cell[2])
            there[3] = max(there[3], cell[3])


def _whole(n: float) -> int:
    # Only what is not a number differs from itself.
    return int(max(-MOST, min(n, MOST))) if n == n else 0


def _finite(cell: Cell) -> tuple[float, float, float]:
    return (cell[1], cell[2], cell[3]) if cell[2] <= cell[3] else (0.0, 0.0, 0.0)


recorder: Final = Recorder()
count: Final = recorder.count
observe: Final = recorder.observe
set_sink: Final = recorder.set_sink
flush: Final = recorder.flush
begin: Final = recorder.begin
close: Final = recorder.close

# A fork may happen while another thread holds the lock; the child starts with one of its own.
os.register_at_fork(after_in_child=recorder._reset)
