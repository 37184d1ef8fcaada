"""`AccountSelectionStrategy`: a door to the selection of accounts."""

from collections.abc import Collection

from apps.common.clock import database_now
from apps.tokens.errors import UnknownSite
from apps.tokens.models import AdmissionLimits, Site
from apps.tokens.services import selection


class AccountSelectionStrategy:
    """Says which account would log in now. Credentials stay where they are."""

    def select_account(self, site_name: str, exclude_accounts: Collection[str] = ()) -> str | None:
        """Return the username that the site's strategy takes next; None if none may log in.

        Raises UnknownSite.
        """
        site = _site(site_name)
        accounts = site.accounts.exclude(username__in=list(exclude_accounts))
        chosen = selection.choose(
            accounts, site=site, at=database_now(), limits=AdmissionLimits.current()
        )
        return chosen.username if chosen else None

    def get_available_accounts(self, site_name: str) -> list[str]:
        """Return the usernames that may log in now, the next one first. Raises UnknownSite."""
        site, at = _site(site_name), database_now()
        judged = selection.judge(
            site.accounts.all(), site=site, at=at, limits=AdmissionLimits.current()
        )
        able = [found.account for found in judged if found.why_not is None]
        able.sort(key=lambda account: selection.rank(account, site=site, at=at))
        return [account.username for account in able]


def _site(slug: str) -> Site:
    site = Site.objects.filter(slug=slug, enabled=True).first()
    if site is None:
        raise UnknownSite
    return site
