"""Generations that live in the database, for when Redis cannot be told to forget.

A value is stamped with the tokens of its day. Bumping a namespace draws a new token, and what was
stored before counts no more, in Redis as in every process. Each process learns of it at its next
look at the table, at most two seconds later.
"""

import secrets
from collections.abc import Callable
from threading import Lock
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError

from apps.caching.keys import EVERYTHING
from apps.common.clock import now

log = structlog.get_logger(__name__)

NEVER: Final = b"\0" * 8


class Generations:
    """What one process knows of the table, and what it could not write there yet."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self.known = False
        self._on_change = on_change
        self._tokens: dict[str, bytes] = {}
        self._marked: set[str] = set()
        self._failed: set[str] = set()
        self._writes = 0
        self._lock = Lock()

    def stamp(self, namespace: str) -> bytes:
        """Return 16 bytes: the tokens of everything and of this namespace."""
        return self._tokens.get(EVERYTHING, NEVER) + self._tokens.get(namespace, NEVER)

    def accepts(self, namespace: str, stamp: bytes) -> bool:
        """Say whether a value with this stamp still counts.

        A process that could never read the table, because the database is down, trusts Redis.
        """
        mine = self.stamp(namespace)
        return stamp == mine or (not self.known and mine == NEVER + NEVER)

    @property
    def pending(self) -> frozenset[str]:
        """The namespaces that wait for the database to come back."""
        with self._lock:
            return frozenset(self._failed)

    def bump(self, namespace: str) -> bool:
        """Draw a new token now. If the database is down too, this process alone knows for now."""
        token = secrets.token_bytes(8)
        try:
            foreign = self._write(namespace, token)
        except (DatabaseError, InterfaceError) as error:
            log.warning("cache_generation_pending", namespace=namespace, error=type(error).__name__)
            with self._lock:
                self._failed.add(namespace)
                self._tokens[namespace] = token
                self._writes += 1
            self._on_change(namespace)
            return False
        with self._lock:
            self._failed.discard(namespace)
            self._tokens[namespace] = token
            self._writes += 1
        if foreign:
            self._on_change(namespace)
        return True

    def mark(self, namespace: str) -> None:
        """Have a new token drawn soon, once for many changes."""
        with self._lock:
            self._marked.add(namespace)

    def settle(self) -> None:
        """Write what was marked or could not be written."""
        with self._lock:
            waiting, self._marked = self._marked | self._failed, set()
        for namespace in sorted(waiting):
            if not self.bump(namespace):
                return

    def poll(self) -> None:
        """Read the table; raises DatabaseError."""
        from apps.caching.models import CacheGeneration  # models need the app registry

        writes = self._writes
        rows = CacheGeneration.objects.order_by().values_list("namespace", "token")
        found = {namespace: bytes.fromhex(token) for namespace, token in rows}
        with self._lock:
            if writes != self._writes:
                return  # what was read is older than what this process wrote meanwhile
            changed = [
                namespace
                for namespace, token in found.items()
                if self._tokens.get(namespace) != token and namespace not in self._failed
            ]
            self._tokens.update({namespace: found[namespace] for namespace in changed})
            self.known = True
        for namespace in changed:
            self._on_change(namespace)

    def _write(self, namespace: str, token: bytes) -> bool:
        """Write a token; return whether somebody else had changed it meanwhile."""
        from apps.caching.models import CacheGeneration  # models need the app registry

        known, text = self._tokens.get(namespace, NEVER).hex(), token.hex()
        rows = CacheGeneration.objects.filter(namespace=namespace)
        if rows.filter(token=known).update(token=text, changed_at=now()):
            return False
        _, created = CacheGeneration.objects.get_or_create(
            namespace=namespace, defaults={"token": text}
        )
        if not created:
            rows.update(token=text, changed_at=now())
        return not created
