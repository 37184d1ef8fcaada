"""Keeping tokens fresh though nobody asks: a tick queues what will be needed.

For each site that wants it, the best accounts (the ones selection would take) are kept warm: a
missing token is acquired, one in its refresh window renewed, by one background request each.
"""

from datetime import datetime
from typing import Final

from apps.common.clock import database_now
from apps.tokens.models import Account, AdmissionLimits, Site, StoredToken
from apps.tokens.models.requests import Queue, Reason
from apps.tokens.services import hours, requests, selection
from apps.tokens.services.requests import Demand

# No more than this many new requests a tick: a cold start does not flood the queue.
AT_ONCE: Final = 100


def tick() -> int:
    """Queue what the sites' keep-warm counts ask for now; return how many requests were asked."""
    at, limits = database_now(), AdmissionLimits.current()
    asked = 0
    for site in Site.objects.filter(enabled=True, keep_warm__gt=0):
        if asked >= AT_ONCE:
            break
        if hours.is_warm_time(site, at=at) and hours.is_open(site, at=at):
            asked += _keep(site, at=at, limits=limits)
    return asked


def _keep(site: Site, *, at: datetime, limits: AdmissionLimits) -> int:
    accounts = _best(site, at=at, limits=limits)[: site.keep_warm]
    tokens = {
        token.account_id: token
        for token in StoredToken.objects.usable(at=at).filter(account__in=accounts)
    }
    asked = 0
    for account in accounts:
        token = tokens.get(account.pk)
        if token is not None and token.refresh_after > at:
            continue
        account.site = site
        requests.ask(_demand(site, account, token), asker=None)
        asked += 1
    return asked


def _demand(site: Site, account: Account, token: StoredToken | None) -> Demand:
    if token is None:
        return Demand(site=site, account=account, reason=Reason.WARM_UP, queue=Queue.BATCH)
    return Demand(
        site=site,
        account=account,
        reason=Reason.REFRESH_AHEAD,
        queue=Queue.REFRESH,
        newer_than=token.version,
    )


def _best(site: Site, *, at: datetime, limits: AdmissionLimits) -> list[Account]:
    """Return the accounts that may log in, those with a usable token first, then by rank.

    An account that is busy is being logged in already and counts as one of the warm ones.
    """
    judged = selection.judge(Account.objects.filter(site=site), site=site, at=at, limits=limits)
    able = [
        found.account
        for found in judged
        if found.why_not is None or found.why_not.code == "account_busy"
    ]
    usable = set(
        StoredToken.objects.usable(at=at)
        .filter(account__in=able)
        .values_list("account_id", flat=True)
    )
    return sorted(
        able, key=lambda one: (one.pk not in usable, *selection.rank(one, site=site, at=at))
    )
