"""Warming up: what is cached of sites, and tokens that are missing or end soon.

The logins are ordinary requests at batch priority: admission, budgets and the same-secret rules
hold for them as for any other, and whoever waits in front of a screen goes first.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.common.clock import database_now
from apps.common.errors import ValidationFailed
from apps.tokens.errors import SiteDisabled, UnknownAccount, UnknownSite
from apps.tokens.models import Account, AdmissionLimits, Site, StoredToken, TokenRequest
from apps.tokens.models.requests import LIVE, Queue, Reason, Status
from apps.tokens.services import directory, hours, lookup, requests, selection
from apps.tokens.services.requests import Asker, Demand

POLL_S: Final = 0.25
BUSY: Final = "account_busy"
FRESH: Final = "fresh"
COLD: Final = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmProgress:
    """How many of the accounts are warm, or known not to become so."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmReport:
    """What a warm-up found and did.

    `fresh` accounts had a token that is good for a while, `requested` logins were queued (or
    joined). Of those `acquired` ended with a token, `failed` without, `pending` were not over
    when the wait was. `skipped` counts the accounts that may not log in now, by code.
    """

    sites: tuple[str, ...] = ()
    accounts: int = 0
    fresh: int = 0
    requested: int = 0
    acquired: int = 0
    failed: int = 0
    pending: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    request_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmState:
    """How warm accounts are at this moment, whoever asked for it.

    `fresh` have a token that is good for a while, `pending` a live request, `missing` neither,
    and `skipped` may not log in now, by code. `progress` is the share (percent, rounded down) of
    those that are fresh or cannot become so; 100 where there are no accounts.
    """

    sites: tuple[str, ...]
    accounts: int
    fresh: int
    pending: int
    missing: int
    skipped: Mapping[str, int]
    progress: int


OnProgress = Callable[[WarmProgress], None]


@dataclass(slots=True)
class _Found:
    accounts: int = 0
    fresh: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    asked: list[UUID] = field(default_factory=list)


def warm(
    sites: Sequence[str] | None,
    accounts: Sequence[str] | None = None,
    *,
    max_wait_s: float = 0.0,
    dry_run: bool = False,
    asker: Asker | None = None,
    on_progress: OnProgress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> WarmReport:
    """Load what is cached of these sites (None: all enabled ones), and queue the missing logins.

    `accounts` narrows it to usernames of one site. Waits for the logins `max_wait_s` seconds at
    most; they go on after that. With `dry_run` `requested` says what would be queued. Raises
    UnknownSite, UnknownAccount, SiteDisabled, ValidationFailed before anything is queued.
    """
    chosen = _choose(sites, accounts)
    found = _Found()
    at, limits = database_now(), AdmissionLimits.current()
    for site, names in chosen:
        _load(site.slug, names)
        _ask(site, names, found, at=at, limits=limits, asker=asker, dry_run=dry_run)
    asked = dict.fromkeys(found.asked)
    states = _wait(
        list(asked),
        settled=found.accounts - len(found.asked),
        total=found.accounts,
        max_wait_s=max_wait_s,
        on_progress=on_progress,
        sleep=sleep,
        clock=clock,
    )
    return WarmReport(
        sites=tuple(site.slug for site, _ in chosen),
        accounts=found.accounts,
        fresh=found.fresh,
        requested=len(found.asked),
        acquired=states[Status.DONE],
        failed=sum(n for state, n in states.items() if state not in (*LIVE, Status.DONE)),
        pending=sum(states[state] for state in LIVE),
        skipped=dict(sorted(found.skipped.items())),
        request_ids=tuple(pk for pk in asked if not dry_run),
    )


def state(sites: Sequence[str] | None, accounts: Sequence[str] | None = None) -> WarmState:
    """Return how far a warm-up of the same sites and accounts is; raises as `warm` does."""
    chosen = _choose(sites, accounts)
    at, limits = database_now(), AdmissionLimits.current()
    total, found, cold = 0, Counter[str](), list[UUID]()
    for site, names in chosen:
        total += len(names)
        for judged in _judge(site, names, at=at, limits=limits):
            found[judged.state] += 1
            if judged.state == COLD:
                cold.append(judged.account.pk)
    live = TokenRequest.objects.filter(status__in=LIVE, account__in=cold)
    pending = live.order_by().values("account").distinct().count()
    fresh, missing = found.pop(FRESH, 0), found.pop(COLD, 0) - pending
    settled = fresh + found.total()
    return WarmState(
        sites=tuple(site.slug for site, _ in chosen),
        accounts=total,
        fresh=fresh,
        pending=pending,
        missing=missing,
        skipped=dict(sorted(found.items())),
        progress=100 * settled // total if total else 100,
    )


def _choose(
    sites: Sequence[str] | None, accounts: Sequence[str] | None
) -> list[tuple[Site, list[str]]]:
    rows = _sites(sites)
    if accounts is not None and len(rows) != 1:
        raise ValidationFailed("Accounts can be named for one site only.")
    return [(site, _accounts(site, accounts)) for site in rows]


def _sites(slugs: Sequence[str] | None) -> list[Site]:
    if slugs is None:
        return list(Site.objects.filter(enabled=True))
    rows = {site.slug: site for site in Site.objects.filter(slug__in=slugs)}
    for slug in slugs:
        if slug not in rows:
            raise UnknownSite(f"There is no site {slug}.", details={"site": slug})
        if not rows[slug].enabled:
            raise SiteDisabled(f"The site {slug} is disabled.", details={"site": slug})
    return [rows[slug] for slug in dict.fromkeys(slugs)]


def _accounts(site: Site, names: Sequence[str] | None) -> list[str]:
    there = list(site.accounts.filter(enabled=True).values_list("username", flat=True))
    if names is None:
        return there
    for name in names:
        if name not in there:
            raise UnknownAccount(details={"site": site.slug})
    return list(dict.fromkeys(names))


def _load(slug: str, names: Sequence[str]) -> None:
    """Bring everything that is asked often into the cache."""
    directory.site(slug)
    directory.credentials(slug)
    directory.statistics(slug)
    directory.blacklist(slug)
    lookup.pool(slug)
    for name in names:
        lookup.find(slug, name)


@dataclass(frozen=True, slots=True)
class _Judged:
    """An account with its token, and FRESH, COLD or the code of why it may not log in."""

    account: Account
    token: StoredToken | None
    state: str


def _judge(
    site: Site, names: Sequence[str], *, at: datetime, limits: AdmissionLimits
) -> Iterator[_Judged]:
    rows = Account.objects.filter(site=site, username__in=names)
    usable = StoredToken.objects.usable(at=at).filter(account__in=rows)
    tokens = {token.account_id: token for token in usable}
    closed = not hours.is_open(site, at=at)
    for judged in selection.judge(rows, site=site, at=at, limits=limits):
        account, why_not = judged.account, judged.why_not
        token = tokens.get(account.pk)
        if token is not None and token.refresh_after > at:
            yield _Judged(account, token, FRESH)
        elif closed:
            yield _Judged(account, token, "site_closed")
        elif why_not is not None and why_not.code != BUSY:
            yield _Judged(account, token, why_not.code)
        else:
            yield _Judged(account, token, COLD)


def _ask(
    site: Site,
    names: Sequence[str],
    found: _Found,
    *,
    at: datetime,
    limits: AdmissionLimits,
    asker: Asker | None,
    dry_run: bool,
) -> None:
    found.accounts += len(names)
    for judged in _judge(site, names, at=at, limits=limits):
        account, token = judged.account, judged.token
        if judged.state == FRESH:
            found.fresh += 1
        elif judged.state != COLD:
            found.skipped[judged.state] += 1
        elif dry_run:
            found.asked.append(account.pk)
        else:
            account.site = site
            demand = Demand(
                site=site,
                account=account,
                reason=Reason.WARM_UP,
                queue=Queue.BATCH,
                # A token that ends soon serves its callers until the new one is there.
                newer_than=token.version if token else 0,
            )
            found.asked.append(requests.ask(demand, asker=asker))


def _wait(
    pending: list[UUID],
    *,
    settled: int,
    total: int,
    max_wait_s: float,
    on_progress: OnProgress | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Counter[str]:
    """Return how many requests are in which state, once all have ended or patience has."""
    end, told = clock() + max_wait_s, -1
    while True:
        rows = TokenRequest.objects.filter(pk__in=pending).order_by()
        states: Counter[str] = Counter(rows.values_list("status", flat=True))
        live = sum(states[state] for state in LIVE)
        done = settled + states.total() - live
        if on_progress is not None and done != told:
            on_progress(WarmProgress(done=done, total=total))
            told = done
        if not live or clock() >= end:
            return states
        sleep(min(POLL_S, max(0.0, end - clock())))
