"""A Valkey of these tests' own, and several processes' worth of cache in one."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import redis
from django_redis.pool import ConnectionFactory

from apps.caching import runtime as runtime_module
from apps.caching.runtime import Runtime
from config.embedded import embedded_valkey


class Valkey:
    """A server that can be broken in the ways servers break."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.url = self._stack.enter_context(embedded_valkey())
        self.admin = redis.Redis.from_url(self.url, socket_timeout=3)
        self.pid = self._find_pid()

    def _find_pid(self) -> int:
        return int(self.admin.info("server")["process_id"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._stack.close()

    def start(self) -> None:
        self._stack.enter_context(embedded_valkey(self.url))
        self.pid = self._find_pid()

    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.wake()
        self.admin.close()
        self._stack.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    server = Valkey()
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    valkey_server.admin.flushall()
    return valkey_server


def use_redis(settings, url: str, *, timeout_s: float = 10.0) -> None:
    """Use a server. A busy machine is no slow server: only tests of slowness want less time."""
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "shared": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": url,
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.DefaultClient",
                "SERIALIZER": "apps.caching.codec.BytesSerializer",
                "SOCKET_CONNECT_TIMEOUT": timeout_s,
                "SOCKET_TIMEOUT": timeout_s,
                "CONNECTION_POOL_CLASS": "redis.connection.BlockingConnectionPool",
                "CONNECTION_POOL_KWARGS": {"max_connections": 32, "timeout": timeout_s},
            },
        },
    }


@pytest.fixture(autouse=True)
def fresh_runtime(settings) -> Iterator[None]:
    """No Redis unless a test asks for one, and nothing cached by the test before."""
    runtime_module.stop()
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    yield
    runtime_module.stop()
    # django-redis keeps pools by URL alone: the next test may want other time-outs.
    ConnectionFactory._pools.clear()


@pytest.fixture
def with_redis(settings, valkey: Valkey) -> Valkey:
    """Redis, and no threads: what a test does is all that happens."""
    use_redis(settings, valkey.url)
    return valkey


@contextmanager
def as_process(process: Runtime) -> Iterator[None]:
    """Let the services work with this runtime, as if in its process."""
    before = runtime_module._state[:]
    runtime_module._state[:] = [process]
    try:
        yield
    finally:
        runtime_module._state[:] = before


@pytest.fixture
def processes(settings, transactional_db) -> Iterator[Callable[[int], list[Runtime]]]:
    """Make runtimes with their threads: each is a process of its own as far as caching goes."""
    settings.LATCHKEY_CACHE_BACKGROUND = True
    made: list[Runtime] = []

    def make(count: int) -> list[Runtime]:
        made.extend(Runtime() for _ in range(count))
        for process in made:
            until(lambda process=process: process.generations.known)
            if process.shared is not None:
                until(lambda process=process: process.background.listening)
                until(lambda process=process: process.shared.guard.writable)
        return made

    yield make
    for process in made:
        process.refreshing.stop()
        process.background.ask_to_stop()
    for process in made:
        process.background.stop()
        if process.shared is not None:
            process.shared.close()


def until(condition: Callable[[], object], *, within_s: float = 60.0) -> float:
    """Wait until something is so; return how long it took. Fails when it takes too long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began
