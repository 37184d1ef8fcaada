"""The cache as other apps use it: first this process, then Redis, then the loader."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from threading import RLock
from typing import Any

from cachetools import LRUCache
from django.db import transaction

from apps.caching.codec import pack, unpack
from apps.caching.contracts import SHIPPED, Layer, Lookup, Policy

_lock = RLock()
_entries: dict[str, LRUCache[str, tuple[bytes, float, float]]] = {}
_policies = {policy.namespace: policy for policy in SHIPPED}


def get(namespace: str, key: str, default: Any = None) -> Any:
    """Return the cached value, or `default`."""
    found = lookup(namespace, key)
    return default if found is None else found.value


def get_many(namespace: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return what is cached of these keys."""
    found = {key: lookup(namespace, key) for key in keys}
    return {key: hit.value for key, hit in found.items() if hit is not None}


def lookup(
    namespace: str,
    key: str,
    loader: Callable[[], Any] | None = None,
    *,
    ttl_s: float | None = None,
    expires_at: Callable[[Any], datetime | None] | None = None,
    deadline_s: float = 30,
) -> Lookup | None:
    """Return the value and where it came from; None when it is nowhere and there is no loader.

    `expires_at` names the end of a loaded value, such as a token's own.
    """
    now = time.time()
    with _lock:
        entry = _space(namespace).get(key)
    if entry is not None and now < entry[1]:
        return Lookup(unpack(entry[0]), Layer.L1, age_s=now - entry[2])
    if loader is None:
        return None
    value = loader()
    ends = expires_at(value) if expires_at is not None and value is not None else None
    set(namespace, key, value, ttl_s=ttl_s, expires_at=ends)
    return Lookup(value, Layer.LOADER)


def get_or_load(
    namespace: str,
    key: str,
    loader: Callable[[], Any],
    *,
    ttl_s: float | None = None,
    expires_at: Callable[[Any], datetime | None] | None = None,
    deadline_s: float = 30,
) -> Any:
    """Return the cached value, or what `loader()` returns."""
    found = lookup(
        namespace, key, loader, ttl_s=ttl_s, expires_at=expires_at, deadline_s=deadline_s
    )
    return None if found is None else found.value


def set(
    namespace: str,
    key: str,
    value: Any,
    *,
    ttl_s: float | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Keep a value for the policy's life, `ttl_s`, or until `expires_at`, whichever ends first."""
    now = time.time()
    policy = _policies.get(namespace) or Policy(namespace=namespace)
    ends = now + min(ttl_s or policy.ttl_s, policy.l1_ttl_s)
    if expires_at is not None:
        ends = min(ends, expires_at.timestamp())
    with _lock:
        _space(namespace)[key] = (pack(value), ends, now)


def delete(namespace: str, *keys: str) -> None:
    """Forget these keys everywhere."""
    with _lock:
        for key in keys:
            _space(namespace).pop(key, None)


def exists(namespace: str, key: str) -> bool:
    """Say whether a fresh value is cached."""
    return lookup(namespace, key) is not None


def clear(namespace: str) -> None:
    """Forget a namespace everywhere."""
    with _lock:
        _entries.pop(namespace, None)


def clear_all() -> None:
    """Forget everything this software has cached, and nothing else."""
    with _lock:
        _entries.clear()


def invalidate_on_commit(namespace: str, *keys: str) -> None:
    """Forget these keys when the present transaction has committed (now, if there is none)."""
    transaction.on_commit(partial(delete, namespace, *keys))


def _space(namespace: str) -> LRUCache[str, tuple[bytes, float, float]]:
    if namespace not in _entries:
        _entries[namespace] = LRUCache(1_000)
    return _entries[namespace]
