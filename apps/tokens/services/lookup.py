"""The token that is there already: from the cache, or from its row.

What is cached is a `TokenView` as a plain dictionary, under `site/account`, and under `site`
the names of the accounts that have one. An absent token is not cached: the next login would have
to find and drop that in every process. Whoever changes a token's row calls `forget`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet

from apps.caching import services as cache
from apps.common.clock import now
from apps.tokens.contracts import Cookie, TokenMaterial
from apps.tokens.models import Account, Site, StoredToken
from apps.tokens.models.sites import HandOut

NAMESPACE: Final = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A stored token, decrypted, with what decides about handing it out. Times in UTC."""

    id: UUID
    site: str
    account: str
    labels: tuple[str, ...]
    version: int
    fingerprint: str
    issued_at: datetime
    expires_at: datetime
    usable_until: datetime
    refresh_after: datetime
    material: TokenMaterial = field(repr=False)

    def remaining_s(self, *, at: datetime) -> float:
        """Return for how many seconds it may still be used."""
        return (self.usable_until - at).total_seconds()

    def serves(self, *, at: datetime, newer_than: int = 0, min_ttl_s: float = 0) -> bool:
        """Say whether it is usable, new enough, and good for long enough."""
        left = self.remaining_s(at=at)
        return left > 0 and left >= min_ttl_s and self.version > newer_than


@dataclass(frozen=True, slots=True)
class Member:
    """An account of a pool whose token is usable until `ends_s`, in seconds since the epoch."""

    account: str
    labels: Sequence[str]
    ends_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The usable tokens of a site by account, the longest usable first; `strategy` picks one.

    Most often the first is taken, so the others are not even looked at.
    """

    strategy: str
    members: Iterator[Member]


class NotHeld(Exception):
    """This process would have to ask somebody."""


def find(site: str, account: str, *, held: bool = False) -> TokenView | None:
    """Return the usable token of an account.

    May be up to 5 s old. While the database is down a cached token is served to its end, for at
    most the policy's stale-if-error time; without one DatabaseUnavailable is raised. With `held`
    nobody is asked, and NotHeld is raised where somebody would have to be.
    """
    found = _cached(account_key(site, account), lambda: load(site, account), held=held)
    view = _from_plain(found) if found else None
    return view if view and view.usable_until > now() else None


def pool(site: str, *, held: bool = False) -> Pool:
    """Return which accounts of a site have a usable token, the longest usable first."""
    found = _cached(site, lambda: load_pool(site), held=held)
    if not found:
        return Pool(strategy=HandOut.BEST, members=iter(()))
    at_s = now().timestamp()
    members = (Member(*one) for one in found["members"] if one[2] > at_s)
    return Pool(strategy=found["strategy"], members=members)


def stored(
    site: str, account: str | None, *, at: datetime, newer_than: int = 0
) -> TokenView | None:
    """Return the same from the rows, past every cache: what decisions are based on.

    `account` None means any; of those newer than the version the longest usable is returned.
    """
    tokens = _usable(site, at=at).filter(version__gt=newer_than)
    if account is not None:
        tokens = tokens.filter(account__username=account)
    row = tokens.select_related("account__site").only(*_VIEWED).first()
    return view_of(row) if row else None


def view_of(row: StoredToken) -> TokenView:
    """Decrypt a row that was selected with its account and site."""
    return TokenView(
        id=row.pk,
        site=row.account.site.slug,
        account=row.account.username,
        labels=tuple(row.account.labels),
        version=row.version,
        fingerprint=row.fingerprint,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        usable_until=_usable_until(row),
        refresh_after=row.refresh_after,
        material=material_from_plain(row.material),
    )


def forget(account: Account) -> None:
    """Drop what is cached of an account's token, once the present transaction commits."""
    slug = account.site.slug
    cache.invalidate_on_commit(NAMESPACE, account_key(slug, account.username), slug)


def account_key(site: str, account: str) -> str:
    """Return under which key an account's token is cached; the pool of a site is under its slug."""
    return f"{site}/{account}"


def load(site: str, account: str) -> dict[str, Any] | None:
    """Return what is to be cached of an account's token, from its row.

    Asks by name alone and looks here whether it is usable: most of what a query costs is making it.
    """
    named = StoredToken.objects.filter(account__site__slug=site, account__username=account)
    for found in named.order_by().values(*_VIEWED, *_DECIDING):
        if _is_usable(found, at=now()):
            return _plain_of(found)
    return None


def load_pool(site: str) -> dict[str, Any] | None:
    """Return what is to be cached of a site's pool, from its rows."""
    columns = ("account__username", "account__labels", "usable_until", "idle_until")
    rows = list(_usable(site, at=now()).values_list(*columns, "account__site__hand_out"))
    if not rows:
        return None
    members = sorted(
        (
            [username, labels, min(filter(None, ends)).timestamp()]
            for username, labels, *ends, _strategy in rows
        ),
        key=lambda member: -member[2],
    )
    return {
        "strategy": rows[0][-1],
        "members": members,
        "usable_until": members[0][2],
    }


def forget_site(site: Site) -> None:
    """Drop what is cached of all tokens of a site, once the present transaction commits."""
    names = site.accounts.order_by().values_list("username", flat=True)
    cache.invalidate_on_commit(NAMESPACE, site.slug, *(f"{site.slug}/{name}" for name in names))


def material_to_plain(material: TokenMaterial) -> dict[str, Any]:
    """Return JSON-serialisable content; cookie expiry as seconds since the epoch."""
    plain = asdict(material)
    for cookie in plain["cookies"]:
        cookie["expires"] = cookie["expires"].timestamp() if cookie["expires"] else None
    return plain


def material_from_plain(plain: Mapping[str, Any]) -> TokenMaterial:
    """Undo `material_to_plain`."""
    cookies = tuple(
        Cookie(**{**cookie, "expires": _time(cookie["expires"]) if cookie["expires"] else None})
        for cookie in plain["cookies"]
    )
    return TokenMaterial(**{**plain, "cookies": cookies})


_TIMES: Final = ("issued_at", "expires_at", "usable_until", "refresh_after")


def _cached(
    key: str, load: Callable[[], dict[str, Any] | None], *, held: bool
) -> dict[str, Any] | None:
    found: dict[str, Any] | None
    if held:
        here = cache.held(NAMESPACE, key)
        if here is None:
            raise NotHeld
        found = here.value
    else:
        found = cache.get_or_load(NAMESPACE, key, load, expires_at=_end)
    return found


# What a view shows. The site's recipe and the account's secrets stay where they are.
_VIEWED: Final = (
    "id", "version", "fingerprint", "material", "issued_at", "expires_at", "usable_until",
    "refresh_after", "idle_until", "account__username", "account__labels", "account__site__slug",
)  # fmt: skip


_DECIDING: Final = ("revoked_at", "account__enabled", "account__site__enabled")


def _is_usable(found: Mapping[str, Any], *, at: datetime) -> bool:
    """Say of a row's columns what `_usable` says in SQL."""
    ends = (found["usable_until"], found["idle_until"])
    alive = found["revoked_at"] is None and all(end is None or end > at for end in ends)
    return alive and found["account__enabled"] and found["account__site__enabled"]


def _usable(site: str, *, at: datetime) -> QuerySet[StoredToken]:
    tokens = StoredToken.objects.usable(at=at).filter(
        account__site__slug=site, account__site__enabled=True, account__enabled=True
    )
    return tokens.order_by("-usable_until")


def _usable_until(row: StoredToken) -> datetime:
    return min(filter(None, (row.usable_until, row.idle_until)))


def _end(plain: Mapping[str, Any] | None) -> datetime | None:
    return _time(plain["usable_until"]) if plain else None


def _plain_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns as they are cached: JSON-serialisable."""
    ends = filter(None, (found["usable_until"], found["idle_until"]))
    plain = {name: found[name].timestamp() for name in _TIMES} | {
        "id": str(found["id"]),
        "site": found["account__site__slug"],
        "account": found["account__username"],
        "labels": list(found["account__labels"]),
        "usable_until": min(ends).timestamp(),
    }
    # Only a row opens what is sealed for it.
    plain["material"] = StoredToken(id=found["id"], material=found["material"]).material
    return plain | {name: found[name] for name in ("version", "fingerprint")}


def _from_plain(plain: Mapping[str, Any]) -> TokenView:
    values = dict(plain) | {name: _time(plain[name]) for name in _TIMES}
    values["id"] = UUID(plain["id"])
    values["labels"] = tuple(plain["labels"])
    values["material"] = material_from_plain(plain["material"])
    return TokenView(**values)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
