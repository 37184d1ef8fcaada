"""Whether what is cached is what is stored; where they differ the rows win.

Every change of a row makes the cache forget what it changed, so nothing should ever differ. This
looks, for the case that a change was made past the services: by hand in the database, by a restore,
or by a mistake of ours.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

import structlog

from apps.caching import services as cache
from apps.common import events
from apps.tokens.models import Site, StoredToken
from apps.tokens.services import directory, lookup

log = structlog.get_logger(__name__)

SAMPLE: Final = 200


@dataclass(slots=True, kw_only=True)
class SyncCounts:
    """How many cached values were looked for, and how they compare with their rows."""

    checked: int = 0
    synced: int = 0
    out_of_sync: int = 0
    cache_miss: int = 0

    @property
    def cached(self) -> int:
        """How many of them were cached at all."""
        return self.synced + self.out_of_sync


class _Copy(NamedTuple):
    namespace: str
    key: str
    site: str
    load: Callable[[], Any]


def check(
    *,
    sample: int | None = SAMPLE,
    repair: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> SyncCounts:
    """Compare cached tokens and what is cached of sites with their rows; drop what differs.

    Of tokens and of sites the `sample` that changed last is looked at (None: all of them).
    """
    counts = SyncCounts()
    tokens = StoredToken.objects.select_related("account__site").order_by("-issued_at")[:sample]
    slugs = list(Site.objects.order_by("-updated_at").values_list("slug", flat=True)[:sample])
    copies = list(chain(_of_tokens(tokens), *map(_of_site, slugs)))
    for copy in copies:
        state = _compare(copy)
        setattr(counts, state, getattr(counts, state) + 1)
        counts.checked += 1
        if state == "out_of_sync":
            log.warning("cache_out_of_sync", namespace=copy.namespace, site=copy.site)
            events.cache_incident(reason="out_of_sync")
            if repair:
                cache.delete(copy.namespace, copy.key)
        on_progress(counts.checked, len(copies))
    return counts


def _compare(copy: _Copy) -> str:
    found = cache.lookup(copy.namespace, copy.key)
    if found is None:
        return "cache_miss"
    stored = copy.load()
    if found.value == stored:
        return "synced"
    # Changed while we looked? Then the cache has forgotten it, or holds the new one, by now.
    again = cache.lookup(copy.namespace, copy.key)
    return "synced" if again is None or again.value == stored else "out_of_sync"


def _of_tokens(tokens: Iterable[StoredToken]) -> Iterator[_Copy]:
    for token in tokens:
        site, account = token.account.site.slug, token.account.username
        key = lookup.account_key(site, account)
        yield _Copy(lookup.NAMESPACE, key, site, partial(lookup.load, site, account))


def _of_site(slug: str) -> Iterator[_Copy]:
    yield _Copy(lookup.NAMESPACE, slug, slug, partial(lookup.load_pool, slug))
    for namespace, load in directory.LOADERS.items():
        yield _Copy(namespace, slug, slug, partial(load, slug))
