"""Connections to Redis on which a caller waits no longer than it was willing to.

The client's own time-outs are each for one step: for a free connection, for connecting, for every
step of logging in, for every piece of an answer. A server that drags takes them one after another,
and resolving a host name has none at all. Here a caller names the one moment (monotonic) at which
all its waiting ends, and it never connects itself: threads that live for one connection do.
"""

import select
import socket
import ssl
from collections.abc import Callable
from threading import Condition, Lock, Thread
from typing import Any, Final, cast

import structlog
from hiredis import PushNotification, Reader, pack_command
from redis import exceptions as redis_errors
from redis.connection import AbstractConnection, DefaultParser

from apps.common import clock

log = structlog.get_logger(__name__)

# The last two: past the end, where nothing may be waited for.
IN_VAIN: Final = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
Command = tuple[str | bytes | int | float, ...]
NOT_YET: Final = object()
BUFFER_BYTES: Final = 16_384


class Line:
    """One connection that is logged in, for one caller at a time."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Connect; raises RedisError and OSError."""
        connection.connect()  # type: ignore[no-untyped-call]
        self._connection = connection
        self._socket = cast("socket.socket", connection._get_socket())
        self._reader = Reader(
            protocolError=redis_errors.InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=NOT_YET,
        )
        self._buffer = bytearray(BUFFER_BYTES)
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)

    def quiet(self) -> bool:
        """Say whether the line may be used: nothing was asked, so an answer or an end is wrong."""
        return not self._poll.poll(0)

    def exchange(self, request: bytes, answers: int, until: float) -> list[Any]:
        """Send and return that many answers, errors among them; raises RedisError and OSError."""
        sock, reader, found = self._socket, self._reader, []
        try:
            # Past the end no more is waited, but what is already here is still taken.
            sock.settimeout(max(0.0, until - clock.monotonic()))
            sock.sendall(request)
            while True:
                sock.settimeout(max(0.0, until - clock.monotonic()))
                length = sock.recv_into(self._buffer)
                if not length:
                    raise redis_errors.ConnectionError("Redis closed the connection.")
                reader.feed(self._buffer, 0, length)  # type: ignore[arg-type]
                while (answer := reader.gets()) is not NOT_YET:
                    if not isinstance(answer, PushNotification):
                        found.append(answer)
                        if len(found) == answers:
                            return found
        except IN_VAIN:
            raise redis_errors.TimeoutError("Redis did not answer in time.") from None

    def close(self) -> None:
        self._connection.disconnect()  # type: ignore[no-untyped-call]


class Lines:
    """The lines of one process: at most `limit`, opened as they are needed."""

    def __init__(self, connect: Callable[[], Any], *, limit: int) -> None:
        self._connect, self._limit = connect, limit
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._waiting = 0
        self._idle: list[Line] = []
        # Idle, in use and being opened.
        self._count = 0
        self._opening = 0
        self._failures = 0
        self._failure: Exception | None = None

    def exchange(self, commands: list[Command], until: float) -> list[Any]:
        """Return the answers to some commands sent together.

        Raises the first answer that is an error, and RedisError and OSError where there are no
        answers: TimeoutError if there were none by `until`.
        """
        line = self._take(until)
        try:
            request = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]
            answers = line.exchange(request, len(commands), until)
        except BaseException:
            # An answer may still be under way: nobody else may read it.
            self._drop(line)
            raise
        self._give(line)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self) -> None:
        """Close the lines that nobody is using."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for line in idle:
            line.close()

    def _take(self, until: float) -> Line:
        with self._lock:
            failures, asked = self._failures, False
            while True:
                while self._idle:
                    line = self._idle.pop()
                    if line.quiet():
                        return line
                    self._count -= 1
                    line.close()
                if self._failures != failures and self._failure is not None:
                    raise self._failure
                if not asked and self._count < self._limit:
                    asked = True
                    self._start_opening()
                self._waiting += 1
                in_time = self._changed.wait(until - clock.monotonic())
                self._waiting -= 1
                if not in_time:
                    if self._opening:
                        raise redis_errors.TimeoutError("Redis took too long to connect.")
                    raise redis_errors.ConnectionError("No connection available in time.")

    def _give(self, line: Line) -> None:
        with self._lock:
            self._idle.append(line)
            if self._waiting:
                self._changed.notify()

    def _drop(self, line: Line) -> None:
        with self._lock:
            self._count -= 1
            self._changed.notify()
        line.close()

    def _start_opening(self) -> None:
        try:
            Thread(target=self._open, name="caching-connect", daemon=True).start()
        except RuntimeError as error:  # the interpreter is ending
            raise redis_errors.ConnectionError("No connection can be opened any more.") from error
        self._count += 1
        self._opening += 1

    def _open(self) -> None:
        line, failure = None, None
        try:
            line = Line(self._connect())
        except (redis_errors.RedisError, OSError) as error:
            failure = error
        except Exception as error:
            log.exception("cache_connect_failed")
            failure = redis_errors.ConnectionError(type(error).__name__)
        with self._lock:
            self._opening -= 1
            if line is not None:
                self._idle.append(line)
                self._changed.notify()
            else:
                self._count -= 1
                self._failures += 1
                self._failure = failure
                self._changed.notify_all()
