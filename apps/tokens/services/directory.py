"""What is asked often about sites and accounts, cached: site rows, credentials, statistics, blocks.

Nothing here decides about a login: admission reads the rows. Whoever changes a row calls the
`forget_…` of what it changed, inside its transaction; the cache drops it after the commit.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from apps.caching import services as cache
from apps.common.clock import database_now
from apps.tokens.models import Account, AdmissionLimits, Site
from apps.tokens.services import selection

SITES: Final = "site_configuration"
CREDENTIALS: Final = "credentials"
STATISTICS: Final = "account_statistics"
BLACKLIST: Final = "blacklist"


def site(slug: str) -> dict[str, Any] | None:
    """Return `{slug, name, enabled, connector, hand_out, max_concurrent}`; None if unknown."""
    found: dict[str, Any] | None = cache.get_or_load(SITES, slug, lambda: _load_site(slug))
    return found


def credentials(slug: str) -> list[dict[str, Any]]:
    """Return `[{username, preferred, secrets}]` of a site's enabled accounts; encrypted in Redis.

    For consumers inside this process; no API gives it out.
    """
    found: list[dict[str, Any]] = cache.get_or_load(
        CREDENTIALS, slug, lambda: _load_credentials(slug)
    )
    return found


def statistics(slug: str) -> list[dict[str, Any]]:
    """Return `[{account, successes, failures, success_rate, last_success_at}]` of a site."""
    found: list[dict[str, Any]] = cache.get_or_load(
        STATISTICS, slug, lambda: _load_statistics(slug)
    )
    return found


def blacklist(slug: str) -> list[dict[str, Any]]:
    """Return `[{account, reason, until}]` of the accounts that may not log in now.

    `until` is in seconds since the epoch; None means until a person acts. Busy is not blocked.
    """
    found: list[dict[str, Any]] = cache.get_or_load(
        BLACKLIST, slug, lambda: _load_blacklist(slug), expires_at=_first_end
    )
    return found


def forget_site(slug: str) -> None:
    """Drop everything that is cached of a site, once the present transaction commits."""
    cache.invalidate_on_commit(SITES, slug)
    forget_accounts(slug)


def forget_accounts(slug: str) -> None:
    """Drop what is cached of a site's accounts: an account came, went, or was changed."""
    cache.invalidate_on_commit(CREDENTIALS, slug)
    forget_results(slug)


def forget_results(slug: str) -> None:
    """Drop what a login's result changes: statistics and blocks."""
    cache.invalidate_on_commit(STATISTICS, slug)
    cache.invalidate_on_commit(BLACKLIST, slug)


def _load_site(slug: str) -> dict[str, Any] | None:
    fields = ("slug", "name", "enabled", "connector", "hand_out", "max_concurrent")
    row: dict[str, Any] | None = Site.objects.filter(slug=slug).values(*fields).first()
    return row


def _load_credentials(slug: str) -> list[dict[str, Any]]:
    rows = Account.objects.filter(site__slug=slug, enabled=True)
    return [
        {"username": row.username, "preferred": row.preferred, "secrets": row.secrets or {}}
        for row in rows.order_by("-preferred", "username")
    ]


def _load_statistics(slug: str) -> list[dict[str, Any]]:
    rows = Account.objects.filter(site__slug=slug).order_by("username")
    found = []
    for row in rows:
        tries = row.success_count + row.failure_count
        last = row.last_success_at
        found.append(
            {
                "account": row.username,
                "successes": row.success_count,
                "failures": row.failure_count,
                "success_rate": row.success_count / tries if tries else None,
                "last_success_at": last.timestamp() if last else None,
            }
        )
    return found


def _load_blacklist(slug: str) -> list[dict[str, Any]]:
    row = Site.objects.filter(slug=slug).first()
    if row is None:
        return []
    accounts = Account.objects.filter(site=row).order_by("username")
    judged = selection.judge(
        accounts, site=row, at=database_now(), limits=AdmissionLimits.current()
    )
    return [
        {
            "account": found.account.username,
            "reason": found.why_not.code,
            "until": found.why_not.until.timestamp() if found.why_not.until else None,
        }
        for found in judged
        if found.why_not and found.why_not.code != "account_busy"
    ]


def _first_end(blocks: list[dict[str, Any]]) -> datetime | None:
    """Return when the first of the blocks is over, and the list with it."""
    ends = [block["until"] for block in blocks if block["until"] is not None]
    return datetime.fromtimestamp(min(ends), tz=UTC) if ends else None


# What each namespace holds of a site, by the function that reads it from the rows. Blocks are not
# among them: they end by themselves as time goes by.
LOADERS: Final[Mapping[str, Callable[[str], Any]]] = {
    SITES: _load_site,
    CREDENTIALS: _load_credentials,
    STATISTICS: _load_statistics,
}
