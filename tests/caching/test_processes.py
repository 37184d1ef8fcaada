"""Promises between processes, kept by real ones."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.caching.leases import LEASE_S
from apps.caching.models import CacheUsage

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

# The benchmark measures; here only what would be another kind of wait fails: 400 callers who all
# poll, and callers who wait for the deadline of a dead loader (30 s) instead of its lease (2 s).
MANY_COMMANDS = 1_000
LONG_S = 20.0


class Process:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rw")

    def tell(self, do: str, **order) -> None:
        self._stream.write(json.dumps({"do": do, **order}) + "\n")
        self._stream.flush()

    def answer(self) -> dict:
        line = self._stream.readline()
        assert line, "the process ended"
        return json.loads(line)

    def died(self) -> bool:
        return self._stream.readline() == ""

    def close(self) -> None:
        self._stream.close()
        self._connection.close()


class Nursery:
    """Makes processes by forking one that has loaded everything."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        environment = os.environ | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "LATCHKEY_TEST_CACHE_BACKGROUND": "1",
            "LATCHKEY_REDIS_TIMEOUT_S": "5",
        }
        self._address = str(folder / "orders")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(60)
        self._listener.bind(self._address)
        self._listener.listen(8)
        self._first = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.caching.child"],
            stdin=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def make(self, count: int, *, redis: bool) -> list[Process]:
        order = {"count": count, "address": self._address, "redis": redis}
        self._first.stdin.write(json.dumps(order) + "\n")
        self._first.stdin.flush()
        return [Process(self._listener.accept()[0]) for _ in range(count)]

    def close(self) -> None:
        self._listener.close()
        self._first.stdin.close()
        self._first.wait(10)


@pytest.fixture(scope="module")
def nurseries() -> Iterator[list[Nursery]]:
    made: list[Nursery] = []
    yield made
    for nursery in made:
        nursery.close()


@pytest.fixture(params=["alone", "redis"])
def four(request, database_url, valkey, nurseries, tmp_path) -> Iterator[list[Process]]:
    if not nurseries:
        nurseries.append(Nursery(database_url, valkey.url, tmp_path))
    made = nurseries[0].make(4, redis=request.param == "redis")
    ready = everyone(made, "prepare", namespace="blacklist")
    assert all(answer["ready"] for answer in ready)
    yield made
    for process in made:
        process.close()


def everyone(processes: list[Process], do: str, **order) -> list[dict]:
    for process in processes:
        process.tell(do, **order)
    return [process.answer() for process in processes]


def test_four_processes(four, request, valkey, tmp_path):
    """All scenes in one test: starting four processes costs more than playing them."""
    redis = "redis" in request.node.name
    stampede_loads_once(four, valkey, tmp_path, redis)
    no_old_value_is_left(four, tmp_path)
    counts_add_up(four)
    a_fork_finds_a_working_cache(four[0])
    if redis:
        a_lease_is_held_as_long_as_its_loader_works(four, valkey)
    a_killed_loader_delays_the_others_by_its_lease(four, redis)


def stampede_loads_once(four, valkey, folder: Path, redis: bool) -> None:
    counter = folder / "loads"
    before = valkey.admin.info("stats")["total_commands_processed"]
    answers = everyone(
        four, "stampede", key="stampede", callers=100, load_s=0.3, counter=str(counter),
        at=time.time() + 0.2,
    )  # fmt: skip
    commands = valkey.admin.info("stats")["total_commands_processed"] - before

    assert all(answer["values"] == ["loaded"] and answer["n"] == 100 for answer in answers)
    assert len(counter.read_text()) == (1 if redis else 4)
    assert commands < MANY_COMMANDS


def no_old_value_is_left(four, folder: Path) -> None:
    truth = folder / "truth"
    truth.mkdir()
    for number in range(20):
        (truth / f"key{number}").write_text("0")
    for process in four[1:]:
        process.tell("read_all", folder=str(truth), for_s=1.0)
    four[0].tell("change_all", folder=str(truth), for_s=0.9)
    changes = four[0].answer()["changes"]
    for process in four[1:]:
        process.answer()
    # Messages arrive in milliseconds; without Redis the table is looked at every two seconds.
    deadline = time.monotonic() + 60
    left = [1]
    while any(left) and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [answer["old"] for answer in everyone(four, "old_values", folder=str(truth))]

    assert left == [0, 0, 0, 0]
    assert changes > 20


def counts_add_up(four) -> None:
    everyone(four, "count", reads=0)
    before = sum(_misses())
    answers = everyone(four, "count", reads=250)

    assert all(answer["rows"] for answer in answers)
    assert sum(_misses()) - before == 1_000


def _misses() -> list[int]:
    rows = CacheUsage.objects.filter(namespace="blacklist", layer="l1")
    return list(rows.values_list("misses", flat=True))


def a_fork_finds_a_working_cache(process: Process) -> None:
    process.tell("fork", key="forked")
    answer = process.answer()

    assert answer["said"] == "from the child"


def a_lease_is_held_as_long_as_its_loader_works(four, valkey) -> None:
    four[0].tell("hold", key="held", hold_s=LEASE_S + 1)
    time.sleep(LEASE_S + 0.4)
    leases = valkey.admin.keys("lk:l:blacklist:*")
    left_ms = [valkey.admin.pttl(lease) for lease in leases]
    four[0].answer()

    assert len(leases) == 1
    assert left_ms[0] > 1_000


def a_killed_loader_delays_the_others_by_its_lease(four, redis: bool) -> None:
    four[3].tell("load_and_die", key="orphan")
    assert four[3].died()
    began = time.monotonic()
    answers = everyone(four[:3], "hold", key="orphan", hold_s=0)

    assert [answer["value"] for answer in answers] == ["v"] * 3
    assert time.monotonic() - began < LONG_S
