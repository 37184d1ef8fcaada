"""What waiting for Redis may cost, added up on a clock of the tests' own."""

import socket
import threading
from itertools import count

import pytest
from redis import exceptions as redis_errors

from apps.caching import services
from apps.caching.guard import Away, Patience, reason_of
from apps.caching.lines import Lines
from apps.caching.runtime import current
from apps.caching.shared import Shared
from apps.common import clock
from tests.caching.conftest import until, use_redis

TIMEOUT_S = 0.15
LONG_S = 60.0


class Ticking:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return 1_000.0 + self.passed


@pytest.fixture
def ticking(monkeypatch) -> Ticking:
    made = Ticking()
    monkeypatch.setattr(clock, "monotonic", made)
    return made


class Dripping:
    """A socket that takes most of the time it is allowed, and then brings one byte."""

    def __init__(self, ticking: Ticking, answer: bytes) -> None:
        self._ticking, self._rest = ticking, answer
        self._real, self._other = socket.socketpair()
        self._allowed = 0.0
        self.waits = 0

    def fileno(self) -> int:
        return self._real.fileno()

    def settimeout(self, allowed: float) -> None:
        self._allowed = allowed

    def sendall(self, data: bytes) -> None:
        self._ticking.passed += self._allowed / 2

    def recv_into(self, buffer: bytearray) -> int:
        self.waits += 1
        self._ticking.passed += self._allowed / 2
        if self._allowed < 0.001:
            self._ticking.passed += self._allowed / 2
            raise TimeoutError
        buffer[0], self._rest = self._rest[0], self._rest[1:]
        return 1


class Connection:
    """As much of the client's connection as a line needs."""

    def __init__(self, made: object) -> None:
        self._socket = made

    def connect(self) -> None:
        """There is nothing to connect."""

    def _get_socket(self) -> object:
        return self._socket

    def disconnect(self) -> None:
        """There is nothing to disconnect."""


def test_sending_and_every_piece_of_an_answer_have_one_end(ticking):
    dripping = Dripping(ticking, b"$100\r\n" + b"x" * 100)
    lines = Lines(lambda: Connection(dripping), limit=1)
    lines._start_opening()
    until(lambda: lines._idle)

    with pytest.raises(redis_errors.TimeoutError):
        lines.exchange([("GET", "key")], clock.monotonic() + TIMEOUT_S)

    assert dripping.waits > 3
    assert ticking.passed <= TIMEOUT_S + 1e-9


def test_a_caller_waits_for_a_connection_and_never_connects():
    may_connect, who = threading.Event(), []

    def connect():
        who.append(threading.get_ident())
        may_connect.wait(LONG_S)
        raise OSError("refused")

    lines = Lines(connect, limit=1)
    with pytest.raises(redis_errors.TimeoutError):
        lines.exchange([("PING",)], clock.monotonic() + 0.01)
    may_connect.set()
    until(lambda: not lines._opening)

    assert who
    assert threading.get_ident() not in who
    with pytest.raises(OSError, match="refused"):
        lines.exchange([("PING",)], clock.monotonic() + LONG_S)


def test_callers_beyond_the_limit_wait_in_vain_without_blaming_redis(with_redis):
    services.get("blacklist", "key")
    lines = current().shared.lines
    lines._limit = lines._count
    held = [lines._take(clock.monotonic() + LONG_S) for _ in range(lines._count)]

    with pytest.raises(redis_errors.ConnectionError) as failure:
        lines.exchange([("PING",)], clock.monotonic() + 0.01)
    for line in held:
        lines._give(line)

    assert reason_of(failure.value) == "pool_exhausted"
    assert lines.exchange([("PING",)], clock.monotonic() + LONG_S) == [b"PONG"]


def test_an_answer_that_came_too_late_is_nobody_elses(with_redis):
    services.get("blacklist", "key")
    lines = current().shared.lines
    with_redis.hang()
    try:
        with pytest.raises(redis_errors.TimeoutError):
            lines.exchange([("ECHO", "mine")], clock.monotonic() + 0.01)
    finally:
        with_redis.wake()

    assert lines.exchange([("ECHO", "yours")], clock.monotonic() + LONG_S) == [b"yours"]


def test_an_error_for_an_answer_costs_no_connection(with_redis):
    services.get("blacklist", "key")
    lines = current().shared.lines
    kept = lines._count
    with pytest.raises(redis_errors.ResponseError):
        lines.exchange([("NO SUCH COMMAND",), ("PING",)], clock.monotonic() + LONG_S)

    assert lines.exchange([("ECHO", "next")], clock.monotonic() + LONG_S) == [b"next"]
    assert lines._count == kept


class Server:
    """Stands in for the lines: each exchange takes as long as the test says."""

    def __init__(self, ticking: Ticking, *took_s: float) -> None:
        self._ticking, self._took_s = ticking, list(took_s)
        self.asked: list[str] = []

    def close(self) -> None:
        """There is nothing to close."""

    def exchange(self, commands, until_s):
        self.asked.append(commands[0][0])
        allowed, took = until_s - self._ticking(), self._took_s.pop(0)
        self._ticking.passed += min(allowed, took)
        if took > allowed:
            raise redis_errors.TimeoutError
        answers = {
            "MGET": [None] * (len(commands[0]) - 1),
            "EVALSHA": [1, b"r" * 8, b"g" * 8, None],
        }
        return [answers[commands[0][0]]]


@pytest.fixture
def shared(settings, ticking) -> Shared:
    """The shared layer, proven; nothing is there to connect to."""
    use_redis(settings, "redis://127.0.0.1:1/0", timeout_s=TIMEOUT_S)
    made = current().shared
    assert made is not None
    made.guard.proven(writable=True)
    return made


@pytest.mark.parametrize(
    "took_s",
    [(1.0,), (0.09, 1.0), (0.03, 0.06, 1.0)],
    ids=["reading", "reading and leasing", "reading, leasing and storing"],
)
def test_all_steps_of_a_read_share_one_patience(took_s, shared, ticking, monkeypatch):
    shared.lines, loads = Server(ticking, *took_s), count()
    monkeypatch.setattr(shared, "probe", lambda: False)

    assert services.get_or_load("blacklist", "key", lambda: next(loads)) == 0
    assert ticking.passed == pytest.approx(TIMEOUT_S)
    assert services.health().reasons == ("timeout",)
    for number in range(20):
        services.get_or_load("blacklist", f"key {number}", lambda: next(loads))

    assert len(shared.lines.asked) == len(took_s), "after that nobody asks"
    assert ticking.passed == pytest.approx(TIMEOUT_S)


def test_a_call_after_the_patience_is_not_made(shared):
    with pytest.raises(Away):
        shared.guard.run(lambda until_s: pytest.fail("asked"), Patience(0.0))


def test_a_redis_that_drags_steadily_is_not_let_in_again(shared, ticking, monkeypatch):
    shared.lines = Server(ticking, *[0.07] * 5)
    monkeypatch.setattr(shared, "_run_id", lambda: "")
    for key in ("one", "two"):
        services.get("blacklist", key)
    assert shared.guard.reason == "slow"

    assert not shared.probe()
    assert not shared.guard.readable


def test_the_first_reads_of_a_process_wait_for_its_probe_once(settings, monkeypatch):
    use_redis(settings, "redis://127.0.0.1:1/0", timeout_s=TIMEOUT_S)
    runtime, waits = current(), []

    class Never:
        def wait(self, timeout):
            waits.append(timeout)
            return False

        def set(self):
            """Nobody waits."""

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "background", object())
        patch.setattr(runtime.shared.guard, "_judged", Never())
        for number in range(5):
            assert services.get_or_load("blacklist", str(number), lambda: "loaded") == "loaded"

    assert waits == [TIMEOUT_S]


def test_connections_that_a_server_closed_meanwhile_are_replaced(with_redis):
    services.set("blacklist", "key", "value")
    (line,) = current().shared.lines._idle
    with_redis.admin.client_kill_filter(_type="normal", skipme=True)
    until(lambda: not line.quiet())
    current().forget_space("*")

    assert services.get("blacklist", "key") == "value"
