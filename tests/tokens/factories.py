"""Sites, accounts and callers for tests."""

from typing import Any

from apps.access.contracts import Grant, Principal, Scope
from apps.tokens.models import Account, Site
from apps.tokens.services import accounts, sites


def make_site(slug: str = "court_zxfw", **fields: Any) -> Site:
    values = {"connector": "scripted", "recipe": {}, "allowed_hosts": ["127.0.0.1"]} | fields
    site = Site(slug=slug, **values)
    sites.save(site)
    return site


def make_account(
    site: Site, username: str = "alice", password: str = "correct-horse", **fields: Any
) -> Account:
    secrets = fields.pop("secrets", {"password": password})
    account = Account(site=site, username=username, **fields)
    accounts.create(account, secrets)
    return account


def caller(*grants: Grant, name: str = "filing-bot", scopes: Any = tuple(Scope)) -> Principal:
    return Principal(
        kind="key",
        id=name,
        name=name,
        user_id=1,
        prefix="abcdefgh",
        scopes=frozenset(scopes),
        grants=grants or (Grant(site="*"),),
    )
