"""`cache_manager`: a door to the cache."""

from collections.abc import Sequence
from typing import Any, Final

from apps.caching import services as cache
from apps.tokens.services import directory, lookup, warming
from apps.tokens.services.warming import WarmReport

# Encrypted in Redis, as everything in this namespace; no key of a stored token looks like this.
NAMESPACE: Final = lookup.NAMESPACE


class TokenCacheManager:
    """Caches what it is given, and shows what the broker has cached.

    A token given to `cache_token` is kept apart from those the broker acquired: it is never
    handed out by the API, because no login vouches for it.
    """

    def cache_token(
        self, site_name: str, account: str, token: str, timeout: float | None = None
    ) -> None:
        """Keep a token for `timeout` seconds (None: as the policy says)."""
        cache.set(NAMESPACE, _given(site_name, account), token, ttl_s=timeout)

    def get_cached_token(self, site_name: str, account: str) -> str | None:
        """Return the token the broker holds for this account, else the one that was given here.

        None if there is neither; a token that is no bearer counts as none.
        """
        view = lookup.find(site_name, account)
        if view is not None and view.material.bearer:
            return view.material.bearer
        given: str | None = cache.get(NAMESPACE, _given(site_name, account))
        return given

    def invalidate_token(self, site_name: str, account: str) -> None:
        """Forget the token that was given here, and what is cached of the stored one."""
        cache.delete(NAMESPACE, _given(site_name, account), f"{site_name}/{account}")

    def get_cached_credentials(self, site_name: str) -> list[dict[str, Any]]:
        """Return `[{username, preferred, secrets}]` of the site's enabled accounts."""
        return directory.credentials(site_name)

    def get_cached_account_stats(self, site_name: str) -> list[dict[str, Any]]:
        """Return successes, failures and success rate (0 to 1) by account."""
        return directory.statistics(site_name)

    def get_cached_blacklist(self, site_name: str) -> list[str]:
        """Return the accounts that may not log in now."""
        return [row["account"] for row in directory.blacklist(site_name)]

    def get_cache_statistics(self, window_s: float = 300.0) -> list[dict[str, Any]]:
        """Return hits, misses and hit rate (0 to 1) by namespace and layer, cluster-wide."""
        return [
            {
                "namespace": one.namespace,
                "layer": one.layer,
                "hits": one.hits,
                "misses": one.misses,
                "hit_rate": one.hit_rate,
            }
            for one in cache.statistics(window_s)
        ]

    def warm_up_cache(
        self, site_name: str, accounts: Sequence[str] | None = None, *, max_wait_s: float = 0.0
    ) -> WarmReport:
        """Load what is cached of a site, and log in where a token is missing.

        Raises UnknownSite.
        """
        return warming.warm([site_name], accounts, max_wait_s=max_wait_s)

    def clear_all_cache(self) -> None:
        """Forget everything that is cached, and nothing that is stored."""
        cache.clear_all()


def _given(site_name: str, account: str) -> str:
    return f"given:{site_name}/{account}"


cache_manager: Final = TokenCacheManager()
