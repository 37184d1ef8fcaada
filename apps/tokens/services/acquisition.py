"""The front door: a usable token now, or a ticket for the login that will bring one.

Nothing here waits and nothing logs in. Both faces, DRF and the edge, call `obtain` and, for as
long as the caller is patient, `waiting`.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord, Principal, Scope
from apps.access.services import require
from apps.common import tracing
from apps.common.clock import database_now, now
from apps.common.database import is_unavailable
from apps.common.request_context import current_request_id
from apps.tokens.errors import NoAccountAvailable, SiteDisabled, UnknownAccount, UnknownSite
from apps.tokens.models import Account, AdmissionLimits, Site, StoredToken
from apps.tokens.models.requests import Queue, Reason
from apps.tokens.models.sites import HandOut as HandOutStrategy
from apps.tokens.services import lookup, requests, selection
from apps.tokens.services.lookup import Member, TokenView
from apps.tokens.services.requests import Asker, Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquireSpec:
    """What a caller asks for. `account` None means any; `known_version` goes with `force`."""

    site: str
    account: str | None = None
    min_ttl_s: int = 0
    force: bool = False
    known_version: int | None = None
    purpose: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOut:
    """A token for the caller. `cached` says that no login was waited for."""

    token: TokenView = field(repr=False)
    cached: bool
    refreshing: bool = False
    ttl_unattainable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The request that will bring the token, and what of it serves this caller."""

    request_id: UUID
    spec: AcquireSpec
    newer_than: int
    min_ttl_s: int
    ttl_unattainable: bool = False


def obtain(
    spec: AcquireSpec, *, principal: Principal, remote_address: str = ""
) -> HandOut | Ticket:
    """Return a usable token from storage, or a ticket for the one login that is to bring it.

    Raises UnknownSite or UnknownAccount (also where no grant covers it), SiteDisabled,
    NoAccountAvailable, DatabaseUnavailable.
    """
    require(principal, Scope.TOKENS_READ)
    if not principal.may_read_site(spec.site):
        raise UnknownSite
    if not spec.force:
        view = _find(spec, principal)
        if view and view.serves(at=now(), min_ttl_s=spec.min_ttl_s):
            return _from_storage(spec, view, principal, remote_address)
    return _from_login(spec, principal, remote_address)


def held(spec: AcquireSpec, *, principal: Principal) -> TokenView | None:
    """Return the token that `obtain` would hand out, where this process holds all it takes.

    None means: call `obtain`, which also refuses, renews and forces. Never waits and asks neither
    database nor Redis, so an event loop may call it; `hand_out_held` comes next.
    """
    may = principal.has(Scope.TOKENS_READ) and principal.may_read_site(spec.site)
    if spec.force or not may:
        return None
    try:
        view = _find(spec, principal, held=True)
    except (lookup.NotHeld, UnknownAccount):
        return None
    at = now()
    if view is None or view.refresh_after <= at:
        return None
    return view if view.serves(at=at, min_ttl_s=spec.min_ttl_s) else None


def hand_out(
    view: TokenView, *, spec: AcquireSpec, principal: Principal, cached: bool, remote_address: str
) -> None:
    """Write the audit line; the token may leave only after this has returned."""
    with _span(view, cached=cached):
        audit.record(_line(view, spec, principal, cached, remote_address))


async def hand_out_held(
    view: TokenView, *, spec: AcquireSpec, principal: Principal, remote_address: str
) -> HandOut | None:
    """Hand out what `held` found; None, without an audit line, if that had to wait."""
    line = _line(view, spec, principal, cached=True, remote_address=remote_address)
    with _span(view, cached=True):
        return HandOut(token=view, cached=True) if await audit.record_held(line) else None


def _span(view: TokenView, *, cached: bool) -> tracing.Span:
    return tracing.span("hand_out", {"latchkey.site": view.site, "latchkey.cached": cached})


def _line(
    view: TokenView, spec: AcquireSpec, principal: Principal, cached: bool, remote_address: str
) -> AuditRecord:
    return AuditRecord.by(
        principal,
        kind=AuditKind.HAND_OUT,
        site=view.site,
        account=view.account,
        token_fingerprint=view.fingerprint,
        cached=cached,
        purpose=spec.purpose,
        request_id=current_request_id(),
        remote_address=remote_address,
    )


def _find(spec: AcquireSpec, principal: Principal, *, held: bool = False) -> TokenView | None:
    """Return the cached or stored token that this caller may have and should get."""
    if spec.account is not None:
        view = lookup.find(spec.site, spec.account, held=held)
        if view and not _may_have(principal, view):
            raise UnknownAccount
        return view
    pool = lookup.pool(spec.site, held=held)
    least_s = now().timestamp() + spec.min_ttl_s
    every = principal.may_read(site=spec.site, account="")
    mine = (
        one
        for one in pool.members
        if one.ends_s >= least_s
        and (every or principal.may_read(site=spec.site, account=one.account, labels=one.labels))
    )
    chosen = pick(mine, strategy=pool.strategy, caller=principal.id)
    return lookup.find(spec.site, chosen.account, held=held) if chosen else None


def pick(members: Iterable[Member], *, strategy: str, caller: str) -> Member | None:
    """Choose one of several usable tokens, the longest usable first, for a caller.

    `sticky` is rendezvous hashing (Thaler and Ravishankar, 1998): a caller keeps its account for
    as long as that has a token, and moves no other caller when one comes or goes.
    """
    if strategy == HandOutStrategy.BEST:
        return next(iter(members), None)
    found = list(members)
    if strategy == HandOutStrategy.STICKY:
        return max(
            found,
            key=lambda one: sha256(f"{caller}|{one.account}".encode()).digest(),
            default=None,
        )
    return random.choice(found) if found else None  # noqa: S311 - no secret


def _from_storage(
    spec: AcquireSpec, view: TokenView, principal: Principal, remote_address: str
) -> HandOut:
    """Hand out what is there; in its refresh window, queue one refresh and do not wait for it."""
    due = view.refresh_after <= now()
    if due:
        refresh_ahead(view)
    hand_out(view, spec=spec, principal=principal, cached=True, remote_address=remote_address)
    return HandOut(token=view, cached=True, refreshing=due)


def refresh_ahead(view: TokenView) -> None:
    """Queue one refresh of this token; while the database is down, leave it to the sweep."""
    try:
        site = Site.objects.get(slug=view.site)
        account = Account.objects.get(site=site, username=view.account)
        demand = Demand(
            site=site,
            account=account,
            reason=Reason.REFRESH_AHEAD,
            queue=Queue.REFRESH,
            newer_than=view.version,
        )
        requests.ask(demand, asker=None)
    except (Site.DoesNotExist, Account.DoesNotExist):
        return
    except Exception as error:
        if not is_unavailable(error):
            raise


def _from_login(spec: AcquireSpec, principal: Principal, remote_address: str) -> HandOut | Ticket:
    site = _site(spec.site)
    account = _account(site, spec, principal)
    at = database_now()
    effective_s, unattainable = _attainable(spec.min_ttl_s, site)
    newer_than = _known_version(spec, site, account)
    name = account.username if account else None
    view = lookup.stored(site.slug, name, at=at, newer_than=newer_than)
    if view and view.serves(at=at, newer_than=newer_than, min_ttl_s=effective_s):
        hand_out(view, spec=spec, principal=principal, cached=True, remote_address=remote_address)
        return HandOut(token=view, cached=True, ttl_unattainable=unattainable)
    _require_possible(site, account)
    demand = Demand(
        site=site,
        account=account,
        reason=_reason(spec, site, account),
        newer_than=newer_than,
        min_ttl_s=effective_s,
    )
    asker = Asker(kind=principal.kind, id=principal.id, name=principal.name, purpose=spec.purpose)
    return Ticket(
        request_id=requests.ask(demand, asker=asker),
        spec=spec,
        newer_than=newer_than,
        min_ttl_s=effective_s,
        ttl_unattainable=unattainable,
    )


def _site(slug: str) -> Site:
    site = Site.objects.filter(slug=slug).first()
    if site is None:
        raise UnknownSite
    if not site.enabled:
        raise SiteDisabled
    return site


def _account(site: Site, spec: AcquireSpec, principal: Principal) -> Account | None:
    """Return the account to ask for; None for any, where the caller's grants cover any."""
    if spec.account is not None:
        account = site.accounts.filter(username=spec.account).first()
        if account is None or not _covers(principal, account):
            raise UnknownAccount
        account.site = site
        return account
    if principal.may_read(site=site.slug, account="", labels=()):
        return None
    # "Any" must not log in where this caller may not look: choose among what it may have.
    mine = [row.pk for row in site.accounts.all() if _covers(principal, row)]
    if not mine:
        raise UnknownSite
    accounts = Account.objects.filter(pk__in=mine)
    limits, at = AdmissionLimits.current(), database_now()
    chosen = selection.choose(accounts, site=site, at=at, limits=limits)
    chosen = chosen or accounts[0]
    chosen.site = site
    return chosen


def _attainable(min_ttl_s: int, site: Site) -> tuple[int, bool]:
    """Cap `min_ttl_s` by what the site gives; say whether it had to be.

    The cap is the life of a token up to its refresh window: asking for more would cause a login
    at every asking, and never be satisfied.
    """
    life_s = site.observed_ttl_s or site.default_ttl_s
    margin_s = min(site.safety_margin_s, life_s / 2)
    cap = int(life_s - margin_s - min(site.refresh_lead_s, life_s / 4))
    return (cap, True) if min_ttl_s > cap else (min_ttl_s, False)


def _known_version(spec: AcquireSpec, site: Site, account: Account | None) -> int:
    """Return the version that is not good enough; with `force`, by default, the present one."""
    if not spec.force:
        return 0
    if spec.known_version is not None:
        return min(spec.known_version, site.token_serial)
    tokens = StoredToken.objects.filter(account__site=site)
    if account:
        tokens = tokens.filter(account=account)
    return max(tokens.values_list("version", flat=True), default=0)


def _reason(spec: AcquireSpec, site: Site, account: Account | None) -> Reason:
    if spec.force:
        return Reason.MANUAL
    tokens = StoredToken.objects.filter(account__site=site)
    if account:
        tokens = tokens.filter(account=account)
    row = tokens.order_by("-version").first()
    if row is None:
        return Reason.NO_TOKEN
    return Reason.REJECTED if row.revoked_reason == "rejected" else Reason.TOKEN_EXPIRED


def _require_possible(site: Site, account: Account | None) -> None:
    """Refuse at once what no waiting can bring; `details.reasons` counts why not, by code."""
    limits, at = AdmissionLimits.current(), database_now()
    accounts = Account.objects.filter(site=site)
    if account:
        accounts = accounts.filter(pk=account.pk)
    reasons: dict[str, int] = {}
    for found in selection.judge(accounts, site=site, at=at, limits=limits):
        why = found.why_not
        if why is None or why.until is not None:
            return
        reasons[why.code] = reasons.get(why.code, 0) + 1
    raise NoAccountAvailable(details={"reasons": reasons or {"no_accounts": 1}})


def _may_have(principal: Principal, view: TokenView) -> bool:
    return principal.may_read(site=view.site, account=view.account, labels=view.labels)


def _covers(principal: Principal, account: Account) -> bool:
    return principal.may_read(
        site=account.site.slug, account=account.username, labels=account.labels
    )


def patience_s(wanted_s: float, *, ceiling_s: float) -> float:
    """Return how long an interactive caller is kept waiting at most."""
    return min(wanted_s, ceiling_s, AdmissionLimits.current().queue_timeout_s)
