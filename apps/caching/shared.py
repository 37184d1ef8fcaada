"""The layer in Redis: values, generations and leases.

A value counts only if its stamp names the present generations. The root generation belongs to
one life of the server: after a restart, which may bring deleted values back from a snapshot, the
first process to connect starts a new one.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import redis
from django.conf import settings
from django.core.cache import caches

from apps.caching.guard import FAILURES, SLOW_CALL_S, Guard, reason_of
from apps.caching.keys import EVERYTHING
from apps.common import clock

ALIAS: Final = "shared"
GENERATION_BYTES: Final = 8
SCAN_COUNT: Final = 500

# KEYS: lease, root generation, generation, value. ARGV: token, milliseconds, new generation, steal
_LEASE: Final = """
local root = redis.call('GET', KEYS[2])
if not root then root = ARGV[3]; redis.call('SET', KEYS[2], root) end
local generation = redis.call('GET', KEYS[3])
if not generation then generation = ARGV[3]; redis.call('SET', KEYS[3], generation) end
if ARGV[4] == '1' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1, root, generation, false}
end
local got = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return {got and 1 or 0, root, generation, redis.call('GET', KEYS[4])}
"""
# ARGV: token, root generation, generation, value, milliseconds, channel, message
_COMMIT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2]
   or redis.call('GET', KEYS[3]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
redis.call('DEL', KEYS[1])
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
return 1
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# KEYS: run, root generation. ARGV: run id of the server, new generation. The first command deletes,
# which a full server allows, and with it everything after.
_ADOPT: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


@dataclass(slots=True)
class Reading:
    """What lies under a name; `generations` is empty if one of them is missing."""

    blob: bytes | None
    generations: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """A place in line to fill a name. Only who holds it may commit."""

    namespace: str
    name: str
    token: bytes
    gained: bool
    reading: Reading


class Shared:
    """The shared layer of one process. Every call raises Away when Redis is not to be used."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.prefix = str(settings.CACHES[ALIAS].get("KEY_PREFIX", "")) + "lk"
        self.client = cast("redis.Redis", caches[ALIAS].client.get_client(write=True))  # type: ignore[attr-defined]
        kwargs = self.client.connection_pool.connection_kwargs
        # Channels are common to all databases of a server; keys are not.
        self.channel = f"{self.prefix}:{kwargs.get('db') or 0}:events"
        self.root = f"{self.prefix}:g"
        register = self.client.register_script
        self._lease, self._commit = register(_LEASE), register(_COMMIT)
        self._renew, self._release = register(_RENEW), register(_RELEASE)
        self._adopt = register(_ADOPT)

    def value_name(self, namespace: str, name: str) -> str:
        return f"{self.prefix}:v:{namespace}:{name}"

    def lease_name(self, namespace: str, name: str) -> str:
        return f"{self.prefix}:l:{namespace}:{name}"

    def generation_name(self, namespace: str) -> str:
        return f"{self.prefix}:g:{namespace}"

    def read(self, namespace: str, name: str) -> Reading:
        """Return what lies under one name, in one round trip."""
        prefix = self.prefix
        keys = f"{prefix}:v:{namespace}:{name}", self.root, f"{prefix}:g:{namespace}"
        blob, root, generation = self.guard.run(partial(self._mget, keys))
        return Reading(blob, _joined(root, generation))

    def read_many(self, namespace: str, names: Sequence[str]) -> list[Reading]:
        """Return what lies under each name, in one round trip."""
        keys = [self.root, self.generation_name(namespace)]
        keys += [self.value_name(namespace, name) for name in names]
        found = self.guard.run(partial(self.client.mget, keys))
        root, generation, *blobs = cast("list[bytes | None]", found)
        return [Reading(blob, _joined(root, generation)) for blob in blobs]

    def lease(self, namespace: str, name: str, *, lease_s: float, steal: bool = False) -> Lease:
        """Ask to be the one who fills a name; `steal` takes the place from whoever has it."""
        token = secrets.token_bytes(GENERATION_BYTES)
        args: list[Any] = [
            token,
            int(lease_s * 1000),
            secrets.token_bytes(GENERATION_BYTES),
            int(steal),
        ]
        gained, root, generation, blob = self.guard.run(
            partial(self._lease, keys=self._keys(namespace, name), args=args), write=True
        )
        return Lease(namespace, name, token, bool(gained), Reading(blob, _joined(root, generation)))

    def commit(self, lease: Lease, blob: bytes, *, ttl_s: float, message: str = "") -> bool:
        """Store a value if the lease still stands and no generation has changed."""
        generations = lease.reading.generations
        args: list[Any] = [
            lease.token, generations[:GENERATION_BYTES], generations[GENERATION_BYTES:],
            blob, max(1, int(ttl_s * 1000)), self.channel, message,
        ]  # fmt: skip
        keys = self._keys(lease.namespace, lease.name)
        return bool(self.guard.run(partial(self._commit, keys=keys, args=args), write=True))

    def renew(self, lease: Lease, *, lease_s: float) -> bool:
        """Hold a lease longer; False if it is lost."""
        keys = [self.lease_name(lease.namespace, lease.name)]
        args: list[Any] = [lease.token, int(lease_s * 1000)]
        return bool(self.guard.run(partial(self._renew, keys=keys, args=args), write=True))

    def release(self, lease: Lease) -> None:
        """Give a lease back, if it is still ours."""
        keys = [self.lease_name(lease.namespace, lease.name)]
        self.guard.run(partial(self._release, keys=keys, args=[lease.token]), write=True)

    def delete(self, namespace: str, names: Sequence[str], message: str) -> None:
        """Delete values and leases and tell every process, all at once."""

        def call() -> None:
            with self.client.pipeline(transaction=True) as pipe:
                pipe.unlink(*(self.value_name(namespace, name) for name in names))
                pipe.unlink(*(self.lease_name(namespace, name) for name in names))
                pipe.publish(self.channel, message)
                pipe.execute()

        self.guard.run(call, write=True, urgent=True)

    def clear(self, namespace: str, message: str) -> None:
        """Start a new generation of a namespace (`*`: of all) and tell every process."""
        key = self.root if namespace == EVERYTHING else self.generation_name(namespace)

        def call() -> None:
            with self.client.pipeline(transaction=True) as pipe:
                # Deleting needs no memory, so it also works in a full server; readers take a
                # missing generation for a miss, and the next lease draws a new one.
                pipe.delete(key)
                pipe.publish(self.channel, message)
                pipe.execute()

        self.guard.run(call, write=True, urgent=True)

    def scan(self, namespace: str, *, deadline: float, kind: str = "v") -> list[str]:
        """Return the hashed names that lie in a namespace, as many as time allows."""
        head = f"{self.prefix}:{kind}:{namespace}:"
        names: list[str] = []
        cursor: Any = 0
        while clock.monotonic() < deadline:
            step = partial(self.client.scan, cursor, match=f"{head}*", count=SCAN_COUNT)
            cursor, found = cast("tuple[int, list[bytes]]", self.guard.run(step))
            names += [key.decode()[len(head) :] for key in found]
            if not cursor:
                break
        return names

    def sizes(self, *, deadline: float) -> dict[str, tuple[int, int]]:
        """Return entries and bytes by namespace, as far as time allows."""
        head, cursor = f"{self.prefix}:v:", cast("Any", 0)
        sizes: dict[str, tuple[int, int]] = {}
        while clock.monotonic() < deadline:
            step = partial(self.client.scan, cursor, match=f"{head}*", count=SCAN_COUNT)
            cursor, found = cast("tuple[int, list[bytes]]", self.guard.run(step))
            with self.client.pipeline(transaction=False) as pipe:
                for key in found:
                    pipe.strlen(key)
                lengths = self.guard.run(pipe.execute)
            for key, length in zip(found, lengths, strict=True):
                namespace = key.decode()[len(head) :].partition(":")[0]
                entries, size = sizes.get(namespace, (0, 0))
                sizes[namespace] = entries + 1, size + length
            if not cursor:
                break
        return sizes

    def publish(self, message: str) -> None:
        """Tell every process."""
        self.guard.run(partial(self.client.publish, self.channel, message), write=True, urgent=True)

    def probe(self) -> bool:
        """Find out how Redis is, and let calls through if it is well. Raises nothing."""
        began = clock.monotonic()
        try:
            run_id = self._run_id()
            if clock.monotonic() - began >= SLOW_CALL_S:
                self.guard.suspect("slow")
                return False
            self.client.mget([self.root])
        except FAILURES as error:
            self.guard.suspect(reason_of(error))
            return False
        try:
            # A read-only copy of a restarted server is judged by whoever may write to it.
            if run_id:
                keys = [f"{self.prefix}:run", self.root]
                self._adopt(keys=keys, args=[run_id, os.urandom(GENERATION_BYTES)])
            self.client.set(f"{self.prefix}:probe", b"1", px=1_000)
        except FAILURES as error:
            reason = reason_of(error)
            if reason in {"timeout", "connection"}:
                self.guard.suspect(reason)
                return False
            self.guard.proven(writable=False, reason=reason)
            return True
        self.guard.proven(writable=True)
        return True

    def _mget(self, keys: tuple[str, ...]) -> list[bytes | None]:
        """Do as `client.mget`, without what the client measures for others on every command."""
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("MGET", *keys)  # type: ignore[no-untyped-call]
            return cast("list[bytes | None]", connection.read_response())
        except BaseException:
            # An answer may still be under way: nobody else may read it.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)

    def _run_id(self) -> str:
        try:
            return str(self.client.info("server")["run_id"])
        except redis.exceptions.NoPermissionError:
            return ""

    def _keys(self, namespace: str, name: str) -> list[str]:
        return [
            self.lease_name(namespace, name), self.root,
            self.generation_name(namespace), self.value_name(namespace, name),
        ]  # fmt: skip


def _joined(root: bytes | None, generation: bytes | None) -> bytes:
    return root + generation if root and generation else b""


def connect() -> Shared | None:
    """Return the shared layer, or None where no Redis is configured."""
    return Shared() if ALIAS in settings.CACHES else None
