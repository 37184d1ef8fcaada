"""What can happen to a Redis, one test each.

Two processes share a cache. Redis breaks, a value is deleted meanwhile, Redis comes back. In none
of it does a caller get an error, wait in vain more than once, or see the deleted value later. What
waiting adds up to in one read is judged in test_lines.py.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError

from apps.caching import services
from apps.caching.codec import pack
from apps.caching.envelope import close, open_envelope
from apps.caching.keys import digest
from apps.caching.runtime import Runtime, current
from apps.common import clock, events
from tests.caching.conftest import Valkey, as_process, until, use_redis

NAMESPACE = "site_configuration"
# A namespace of its own: setting in the other one would outdate this one's values as well.
DELETED = "reference_week"
# The time-out of these tests, and the promise.
PATIENCE_S = 0.15


class Meter:
    """How long this thread was ready to wait in those calls of a process that were in vain."""

    def __init__(self, process: Runtime) -> None:
        self.in_vain_s: list[float] = []
        self._lines = process.shared.lines
        self._caller = threading.get_ident()

    @contextmanager
    def watching(self) -> Iterator[None]:
        exchange = self._lines.exchange

        def metered(commands, until_s):
            ready_s = until_s - clock.monotonic()
            try:
                return exchange(commands, until_s)
            except Exception:
                if threading.get_ident() == self._caller:
                    self.in_vain_s.append(ready_s)
                raise

        self._lines.exchange = metered
        try:
            yield
        finally:
            self._lines.exchange = exchange


@contextmanager
def refused(valkey: Valkey) -> Iterator[str]:
    valkey.kill()
    try:
        yield "connection"
    finally:
        valkey.start()


@contextmanager
def hung(valkey: Valkey) -> Iterator[str]:
    valkey.hang()
    try:
        yield "timeout"
    finally:
        valkey.wake()


@contextmanager
def full(valkey: Valkey) -> Iterator[str]:
    valkey.admin.config_set("maxmemory", 1)
    try:
        yield "out_of_memory"
    finally:
        valkey.admin.config_set("maxmemory", 0)


@contextmanager
def read_only(valkey: Valkey) -> Iterator[str]:
    valkey.admin.replicaof("127.0.0.1", "1")
    try:
        yield "read_only"
    finally:
        valkey.admin.replicaof("NO", "ONE")


@contextmanager
def forbidden(valkey: Valkey) -> Iterator[str]:
    password = valkey.admin.connection_pool.connection_kwargs["password"]
    valkey.admin.execute_command(
        "ACL", "SETUSER", "boss", "on", f">{password}", "~*", "&*", "+@all"
    )
    boss = type(valkey.admin).from_url(valkey.url.replace("//:", "//boss:"))
    boss.execute_command("ACL", "SETUSER", "default", "-@all", "+ping", "+auth", "+hello")
    try:
        yield "no_permission"
    finally:
        boss.execute_command("ACL", "SETUSER", "default", "+@all")
        boss.execute_command("ACL", "DELUSER", "boss")


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[str]:
    """What all processes of a test told the metrics of their cache."""
    reasons: list[str] = []
    monkeypatch.setattr(events, "cache_incident", lambda *, reason: reasons.append(reason))
    return reasons


SCENARIOS = [refused, hung, full, read_only, forbidden]


def breaks_and_heals(valkey: Valkey, processes, scenario, told: list[str]) -> None:
    one, two = processes(2)
    for namespace, key in ((NAMESPACE, "kept"), (DELETED, "deleted")):
        with as_process(one):
            services.set(namespace, key, "old")
        with as_process(two):
            assert services.get(namespace, key) == "old"

    with scenario(valkey) as reason:
        loads = count()
        for process in (one, two):
            meter = Meter(process)
            with as_process(process), meter.watching():
                process.forget_space("*")
                for number in range(100):
                    key = f"new {number % 20}"
                    value = services.get_or_load(NAMESPACE, key, lambda: f"load {next(loads)}")
                    assert value.startswith("load")
            assert len(meter.in_vain_s) <= 1, "one read finds out for all"
            assert sum(meter.in_vain_s) <= PATIENCE_S
        with as_process(one):
            services.set(NAMESPACE, "kept", "set meanwhile")
            services.delete(DELETED, "deleted")
            assert services.get(DELETED, "deleted") is None
            until(lambda: reason in services.health().reasons)
            assert services.health().status == "degraded"
            assert reason in services.health().incidents
        assert reason in told
        with as_process(two):
            until(lambda: services.get(DELETED, "deleted") is None)

    for process in (one, two):
        with as_process(process):
            until(lambda: services.health().status == "ok")
            process.forget_space("*")
            until(lambda: services.get(DELETED, "deleted") is None)
            until(lambda: services.get(NAMESPACE, "kept") in (None, "set meanwhile"))
            # The other process may only now find the server restarted, and begin a generation.
            until(lambda process=process: keeps_a_value(process))


def keeps_a_value(process: Runtime) -> bool:
    """Store a value and read it back past this process's own layer."""
    services.set(NAMESPACE, "after", 1)
    process.forget_space("*")
    return services.get(NAMESPACE, "after") == 1


@pytest.mark.processes
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_callers_do_not_notice(scenario, settings, valkey, processes, told):
    use_redis(settings, valkey.url, timeout_s=PATIENCE_S)
    breaks_and_heals(valkey, processes, scenario, told)


class Delay:
    """A way to the server on which every answer can be held up."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        try:
            while data := source.recv(65_536):
                if held:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.processes
def test_callers_do_not_notice_a_slow_server(settings, valkey, processes, told):
    way = Delay(int(valkey.url.rpartition(":")[2].partition("/")[0]))
    url = f"{valkey.url.rpartition(':')[0]}:{way.port}/0"
    use_redis(settings, url, timeout_s=PATIENCE_S)

    @contextmanager
    def slow(_: Valkey) -> Iterator[str]:
        way.delay_s = 0.11
        try:
            yield "slow"
        finally:
            way.delay_s = 0.0

    breaks_and_heals(valkey, processes, slow, told)
    way.close()


def test_a_wiped_server_is_filled_again(with_redis, processes, told):
    one, two = processes(2)
    with as_process(one):
        services.set(NAMESPACE, "key", "old")
        with_redis.admin.flushall()
        one.forget_space("*")
        assert services.get_or_load(NAMESPACE, "key", lambda: "new") == "new"
    with as_process(two):
        assert services.get(NAMESPACE, "key") == "new"
    until(lambda: "wiped" in told)
    assert "wiped" in one.incidents.counts | two.incidents.counts


def test_a_restart_does_not_bring_deleted_values_back(with_redis, processes, told):
    (one,) = processes(1)
    with as_process(one):
        services.set(NAMESPACE, "key", "deleted later")
        snapshot = {key: with_redis.admin.dump(key) for key in with_redis.admin.keys("lk:*")}
        services.delete(NAMESPACE, "key")
        with_redis.kill()
        with_redis.start()
        # What a server does that loads a snapshot from before the delete.
        for key, data in snapshot.items():
            with_redis.admin.restore(key, 0, data, replace=True)
        until(lambda: not one.background.listening or services.health().status == "ok")
        one.shared.probe()
        one.forget_space("*")
        assert services.get(NAMESPACE, "key") is None
        assert "restarted" in told
        assert "restarted" in services.health().incidents


@pytest.mark.processes
def test_the_documented_permissions_are_enough(settings, valkey, processes):
    text = (Path(__file__).parents[2] / "docs/caching.md").read_text(encoding="utf-8")
    commands = re.search(r"in Redis needs `([A-Z\s]+)` on `lk:\*`", text)[1].split()
    rules = ["~lk:*", "&lk:*", *(f"+{command.lower()}" for command in commands)]
    valkey.admin.execute_command("ACL", "SETUSER", "latchkey", "on", ">secret", *rules)
    address = urlsplit(valkey.url)
    use_redis(settings, f"redis://latchkey:secret@127.0.0.1:{address.port}/0")
    one, two = processes(2)

    with as_process(one):
        services.set(NAMESPACE, "key", 1)
        services.get_or_load(NAMESPACE, "loaded", lambda: 2)
        assert services.clear_pattern(NAMESPACE, "key") == 1
        services.set(DELETED, "key", 3)
        services.delete(DELETED, "key")
        services.clear(NAMESPACE)
        assert services.statistics()
        services.clear_all()
    with as_process(two):
        assert services.get(NAMESPACE, "loaded") is None
        assert services.health().status == "ok"
    assert not one.incidents.counts | two.incidents.counts
    valkey.admin.execute_command("ACL", "DELUSER", "latchkey")


@pytest.mark.processes
def test_a_delete_that_nobody_could_be_told_of_is_told_when_redis_is_back(
    settings, valkey, processes, monkeypatch
):
    use_redis(settings, valkey.url, timeout_s=PATIENCE_S)
    one, two = processes(2)
    with as_process(one):
        services.set(DELETED, "key", "revoked")

    def down(*args):
        raise OperationalError("the database is down as well")

    monkeypatch.setattr(one.generations, "_write", down)
    with hung(valkey), as_process(one):
        # Once it is known to hang, nothing is sent that it would do when it wakes up.
        until(lambda: services.get(DELETED, "another") or not one.shared.guard.readable)
        services.delete(DELETED, "key")
        assert services.health().pending_invalidations == 1

    with as_process(two):
        until(lambda: services.health().status == "ok")
        until(lambda: services.get(DELETED, "key") is None)


def test_killed_connections_are_replaced(with_redis, processes, told):
    """Whether anybody is told depends on who sees the end first: asking, or before asking."""
    one, two = processes(2)
    with as_process(one):
        services.set(NAMESPACE, "key", "value")
        for kind in ("normal", "pubsub"):
            with_redis.admin.client_kill_filter(_type=kind, skipme=True)
        one.forget_space("*")
        meter = Meter(one)
        with meter.watching():
            assert services.get_or_load(NAMESPACE, "key", lambda: "value") == "value"
        assert sum(meter.in_vain_s) <= PATIENCE_S
        until(lambda: services.health().status == "ok")
        assert set(told) <= {"connection"}
    # Callers and listeners alike are back.
    with as_process(two):
        until(lambda: services.get(NAMESPACE, "key") == "value")
    with as_process(one):
        until(lambda: one.shared.guard.writable)
        services.set(NAMESPACE, "key", "newer")
    with as_process(two):
        until(lambda: services.get(NAMESPACE, "key") == "newer")


@pytest.mark.parametrize("secret", [False, True], ids=["plain", "secret"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: b"",
        lambda blob: b"\x07" + blob,
        lambda blob: blob[: len(blob) // 2],
        lambda blob: blob[:-1] + bytes([blob[-1] ^ 0xC1]),
        lambda blob: os.urandom(len(blob)),
    ],
    ids=["empty", "unknown kind", "cut", "bit", "noise"],
)
def test_a_damaged_value_is_a_miss(damage, secret, with_redis, told):
    namespace = "tokens" if secret else "blacklist"
    services.set(namespace, "key", ["value"])
    process = current()
    name = process.shared.value_name(namespace, digest(namespace, "key"))
    with_redis.admin.set(name, damage(with_redis.admin.get(name)))
    process.forget_space("*")

    assert services.get_or_load(namespace, "key", lambda: "loaded") == "loaded"

    assert services.health().status == "degraded"
    assert services.health().incidents == {"corrupt_values": 1}
    assert told == ["corrupt_values"]
    process.forget_space("*")
    assert services.get(namespace, "key") == "loaded"


def test_a_value_under_an_unknown_key_is_a_miss(with_redis, settings, told):
    services.set("tokens", "key", "sealed by a newer host")
    settings.LATCHKEY_KEYS = "t2:" + "QkJC" * 10 + "QkI="
    current().forget_space("*")

    assert services.get_or_load("tokens", "key", lambda: "loaded") == "loaded"

    assert "unknown_encryption_key" in services.health().reasons
    assert told == ["unknown_encryption_key"]


def test_a_value_moved_to_another_key_does_not_open(with_redis):
    services.set("tokens", "mine", "my token")
    services.set("tokens", "yours", "your token")
    process = current()
    mine, yours = (
        process.shared.value_name("tokens", digest("tokens", key)) for key in ("mine", "yours")
    )
    with_redis.admin.set(yours, with_redis.admin.get(mine))
    process.forget_space("*")

    assert services.get("tokens", "yours") is None


def test_a_plain_value_planted_among_secrets_is_refused(with_redis):
    services.set("tokens", "key", "real")
    process, name = current(), digest("tokens", "key")
    stored = process.shared.value_name("tokens", name)
    real = open_envelope(with_redis.admin.get(stored), namespace="tokens", name=name, secret=True)
    real.payload = pack("planted")
    with_redis.admin.set(stored, close(real, namespace="tokens", name=name, secret=False))
    process.forget_space("*")

    assert services.get("tokens", "key") is None
