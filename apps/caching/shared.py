"""The layer in Redis: values, generations and leases.

A value counts only if its stamp names the present generations. The root generation belongs to
one life of the server: after a restart, which may bring deleted values back from a snapshot, the
first process to connect starts a new one.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import redis
from django.conf import settings
from django.core.cache import caches

from apps.caching.guard import FAILURES, Guard, Patience, reason_of
from apps.caching.incidents import RESTARTED, WIPED, Incidents
from apps.caching.keys import EVERYTHING
from apps.caching.lines import Command, Lines
from apps.common import clock

ALIAS: Final = "shared"
GENERATION_BYTES: Final = 8
SCAN_COUNT: Final = 500
# What an operation may wait when Redis fails, where the settings name nothing.
TIMEOUT_S: Final = 0.14
# Nobody waits for a probe.
PROBE_S: Final = 1.0
PROBE_READS: Final = 3


class Script:
    """A script by its hash, as servers remember it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: lease, root generation, generation, value. ARGV: token, milliseconds, new generation, steal
_LEASE: Final = Script("""
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
""")
# ARGV: token, root generation, generation, value, milliseconds, channel, message
_COMMIT: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2]
   or redis.call('GET', KEYS[3]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
redis.call('DEL', KEYS[1])
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
return 1
""")
_RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")
# KEYS: run, root generation. ARGV: run id of the server, new generation. The first command deletes,
# which a full server allows, and with it everything after.
_ADOPT: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1])
return 1
""")


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

    def __init__(self, incidents: Incidents) -> None:
        self.incidents = incidents
        self.prefix = str(settings.CACHES[ALIAS].get("KEY_PREFIX", "")) + "lk"
        # django-redis reads the settings, and makes connections of whatever kind they name.
        client = cast("redis.Redis", caches[ALIAS].client.get_client(write=True))  # type: ignore[attr-defined]
        self.pool = client.connection_pool
        kwargs = self.pool.connection_kwargs
        self.guard = Guard(float(kwargs.get("socket_timeout") or TIMEOUT_S), incidents.note)
        self.lines = Lines(
            partial(self.pool.connection_class, **kwargs), limit=self.pool.max_connections
        )
        # Channels are common to all databases of a server; keys are not.
        self.channel = f"{self.prefix}:{kwargs.get('db') or 0}:events"
        self.root = f"{self.prefix}:g"
        # Which life of which server this process has adopted, and where that is written.
        self._life = ""
        self._life_name = f"{self.prefix}:run"

    def patience(self) -> Patience:
        """Return what one operation may cost when Redis fails."""
        return Patience(self.guard.timeout_s)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self.lines.close()

    def value_name(self, namespace: str, name: str) -> str:
        return f"{self.prefix}:v:{namespace}:{name}"

    def lease_name(self, namespace: str, name: str) -> str:
        return f"{self.prefix}:l:{namespace}:{name}"

    def generation_name(self, namespace: str) -> str:
        return f"{self.prefix}:g:{namespace}"

    def read(self, namespace: str, name: str, patience: Patience) -> Reading:
        """Return what lies under one name, in one round trip."""
        prefix = self.prefix
        command = "MGET", self.root, f"{prefix}:g:{namespace}", f"{prefix}:v:{namespace}:{name}"
        ((root, generation, blob),) = self._ask([command], patience)
        return Reading(blob, root + generation if root and generation else b"")

    def read_many(self, namespace: str, names: Sequence[str], patience: Patience) -> list[Reading]:
        """Return what lies under each name, in one round trip."""
        prefix = self.prefix
        values = [f"{prefix}:v:{namespace}:{name}" for name in names]
        command = ("MGET", self.root, f"{prefix}:g:{namespace}", *values)
        ((root, generation, *blobs),) = self._ask([command], patience)
        generations = _joined(root, generation)
        return [Reading(blob, generations) for blob in blobs]

    def lease(
        self, namespace: str, name: str, patience: Patience, *, lease_s: float, steal: bool = False
    ) -> Lease:
        """Ask to be the one who fills a name; `steal` takes the place from whoever has it."""
        token = secrets.token_bytes(GENERATION_BYTES)
        fresh = secrets.token_bytes(GENERATION_BYTES)
        gained, root, generation, blob = self._run(
            _LEASE, self._keys(namespace, name),
            token, int(lease_s * 1000), fresh, int(steal), patience=patience,
        )  # fmt: skip
        return Lease(namespace, name, token, bool(gained), Reading(blob, _joined(root, generation)))

    def commit(
        self, lease: Lease, blob: bytes, patience: Patience, *, ttl_s: float, message: str = ""
    ) -> bool:
        """Store a value if the lease still stands and no generation has changed."""
        generations = lease.reading.generations
        root, generation = generations[:GENERATION_BYTES], generations[GENERATION_BYTES:]
        stored = self._run(
            _COMMIT, self._keys(lease.namespace, lease.name),
            lease.token, root, generation, blob, max(1, int(ttl_s * 1000)), self.channel, message,
            patience=patience,
        )  # fmt: skip
        return bool(stored)

    def renew(self, lease: Lease, *, lease_s: float) -> bool:
        """Hold a lease longer; False if it is lost."""
        key = self.lease_name(lease.namespace, lease.name)
        held = self._run(_RENEW, [key], lease.token, int(lease_s * 1000), patience=self.patience())
        return bool(held)

    def release(self, lease: Lease, patience: Patience) -> None:
        """Give a lease back, if it is still ours."""
        key = self.lease_name(lease.namespace, lease.name)
        self._run(_RELEASE, [key], lease.token, patience=patience)

    def delete(
        self, namespace: str, names: Sequence[str], message: str, patience: Patience
    ) -> None:
        """Delete values and leases and tell every process, all at once."""
        values = [self.value_name(namespace, name) for name in names]
        leases = [self.lease_name(namespace, name) for name in names]
        self._transact(("UNLINK", *values, *leases), message, patience)

    def clear(self, namespace: str, message: str, patience: Patience) -> None:
        """Start a new generation of a namespace (`*`: of all) and tell every process."""
        key = self.root if namespace == EVERYTHING else self.generation_name(namespace)
        # Deleting needs no memory, so it also works in a full server; readers take a missing
        # generation for a miss, and the next lease draws a new one.
        self._transact(("DEL", key), message, patience)

    def unlink(self, kind: str, namespace: str, names: Sequence[str]) -> None:
        """Free the memory of values (`v`) or leases (`l`) without telling anybody."""
        keys = [f"{self.prefix}:{kind}:{namespace}:{name}" for name in names]
        self._ask([("UNLINK", *keys)], self.patience(), write=True, urgent=True)

    def scan(self, namespace: str, *, deadline: float, kind: str = "v") -> list[str]:
        """Return the hashed names that lie in a namespace, as many as time allows."""
        head = f"{self.prefix}:{kind}:{namespace}:"
        names: list[str] = []
        cursor = b"0"
        while clock.monotonic() < deadline:
            cursor, found = self._scan(cursor, f"{head}*")
            names += [key.decode()[len(head) :] for key in found]
            if cursor == b"0":
                break
        return names

    def sizes(self, *, deadline: float) -> dict[str, tuple[int, int]]:
        """Return entries and bytes by namespace, as far as time allows."""
        head, cursor = f"{self.prefix}:v:", b"0"
        sizes: dict[str, tuple[int, int]] = {}
        while clock.monotonic() < deadline:
            cursor, found = self._scan(cursor, f"{head}*")
            lengths = (
                self._ask([("STRLEN", key) for key in found], self.patience()) if found else []
            )
            for key, length in zip(found, lengths, strict=True):
                namespace = key.decode()[len(head) :].partition(":")[0]
                entries, size = sizes.get(namespace, (0, 0))
                sizes[namespace] = entries + 1, size + length
            if cursor == b"0":
                break
        return sizes

    def publish(self, message: str) -> None:
        """Tell every process."""
        command = ("PUBLISH", self.channel, message)
        self._ask([command], self.patience(), write=True, urgent=True)

    def probe(self) -> bool:
        """Find out how Redis is, and let calls through if it is well. Raises nothing."""
        try:
            run_id = self._run_id()
            if not self._prompt():
                self.guard.suspect("slow")
                return False
        except FAILURES as error:
            self.guard.suspect(reason_of(error))
            return False
        try:
            # A read-only copy of a restarted server is judged by whoever may write to it.
            if run_id:
                self._adopt(run_id)
            self._probe_with(("SET", f"{self.prefix}:probe", b"1", "PX", 1_000))
        except FAILURES as error:
            reason = reason_of(error)
            if reason in {"timeout", "connection"}:
                self.guard.suspect(reason)
                return False
            self.guard.proven(writable=False, reason=reason)
            return True
        self.guard.proven(writable=True)
        return True

    def _ask(
        self,
        commands: list[Command],
        patience: Patience,
        *,
        write: bool = False,
        urgent: bool = False,
    ) -> list[Any]:
        call = partial(self.lines.exchange, commands)
        return self.guard.run(call, patience, write=write, urgent=urgent)

    def _transact(self, command: Command, message: str, patience: Patience) -> None:
        publish = ("PUBLISH", self.channel, message)
        commands: list[Command] = [("MULTI",), command, publish, ("EXEC",)]
        self._ask(commands, patience, write=True, urgent=True)

    def _run(
        self, script: Script, keys: Sequence[str], *args: bytes | str | int, patience: Patience
    ) -> Any:
        return self.guard.run(partial(self._eval, script, keys, args), patience, write=True)

    def _eval(
        self, script: Script, keys: Sequence[str], args: Sequence[bytes | str | int], until: float
    ) -> Any:
        rest = (len(keys), *keys, *args)
        try:
            return self.lines.exchange([("EVALSHA", script.sha, *rest)], until)[0]
        except redis.exceptions.NoScriptError:
            return self.lines.exchange([("EVAL", script.text, *rest)], until)[0]

    def _scan(self, cursor: bytes, pattern: str) -> tuple[bytes, list[bytes]]:
        command = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
        ((after, found),) = self._ask([command], self.patience())
        return after, found

    def check_life(self) -> None:
        """Find out whether everything was deleted behind our back; raises Away."""
        if self._life and self.guard.writable:
            (written,) = self._ask([("GET", self._life_name)], self.patience())
            if written is None:
                self.probe()

    def _adopt(self, run_id: str) -> None:
        """Begin a new life of the cache where the server has begun one, or was emptied."""
        fresh = os.urandom(GENERATION_BYTES)
        until = clock.monotonic() + PROBE_S
        began = self._eval(_ADOPT, [self._life_name, self.root], (run_id, fresh), until)
        if self._life and self._life != run_id:
            self.incidents.note(RESTARTED)
        elif self._life and began:
            self.incidents.note(WIPED)
        self._life = run_id

    def _prompt(self) -> bool:
        """Say whether one of a few reads is answered promptly; a single one may meet a hiccup."""
        for _ in range(PROBE_READS):
            began = clock.monotonic()
            self._probe_with(("MGET", self.root))
            if clock.monotonic() - began < self.guard.prompt_s:
                return True
        return False

    def _probe_with(self, command: Command) -> Any:
        return self.lines.exchange([command], clock.monotonic() + PROBE_S)[0]

    def _run_id(self) -> str:
        try:
            info = bytes(self._probe_with(("INFO", "server")))
        except redis.exceptions.NoPermissionError:
            return ""
        found = re.search(rb"run_id:(\w+)", info)
        return found[1].decode() if found else ""

    def _keys(self, namespace: str, name: str) -> list[str]:
        return [
            self.lease_name(namespace, name), self.root,
            self.generation_name(namespace), self.value_name(namespace, name),
        ]  # fmt: skip


def _joined(root: bytes | None, generation: bytes | None) -> bytes:
    return root + generation if root and generation else b""


def connect(incidents: Incidents) -> Shared | None:
    """Return the shared layer, or None where no Redis is configured."""
    return Shared(incidents) if ALIAS in settings.CACHES else None
