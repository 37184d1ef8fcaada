"""What is cached of a token is what the rows say."""

from datetime import timedelta

import pytest

from apps.common.clock import now
from apps.tokens.contracts import Cookie, TokenMaterial
from apps.tokens.models import StoredToken
from apps.tokens.services import lookup
from tests.tokens.factories import make_account, make_site

HOUR = timedelta(hours=1)
MATERIAL = TokenMaterial(
    bearer="b", headers={"X-Session": "s"}, cookies=(Cookie(name="c", value="v", domain="d"),)
)


def make_token(site_fields, account_fields, token_fields):
    account = make_account(make_site(**site_fields), labels=["eu"], **account_fields)
    at = now()
    fields = {"usable_until": at + HOUR, "refresh_after": at + HOUR} | token_fields
    return StoredToken.objects.create(
        account=account, version=7, fingerprint="f", issued_at=at, expires_at=at + 2 * HOUR,
        material=lookup.material_to_plain(MATERIAL), **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("usable", "site", "account", "token"),
    [
        (True, {}, {}, {}),
        (True, {}, {}, {"idle_until": now() + HOUR / 2}),
        (False, {}, {}, {"idle_until": now() - HOUR}),
        (False, {}, {}, {"usable_until": now() - HOUR}),
        (False, {}, {}, {"revoked_at": now()}),
        (False, {"enabled": False}, {}, {}),
        (False, {}, {"enabled": False}, {}),
    ],
    ids=["usable", "not-yet-idle", "idle", "ended", "revoked", "site-off", "account-off"],
)
def test_what_is_loaded_for_the_cache_is_what_decisions_go_by(db, usable, site, account, token):
    row = make_token(site, account, token)
    slug, name = row.account.site.slug, row.account.username
    decided = lookup.stored(slug, name, at=now())
    loaded = lookup.load(slug, name)
    assert (decided is not None) == usable
    assert (lookup.find(slug, name)) == decided
    assert (loaded is not None) == usable
    if loaded:
        assert lookup._from_plain(loaded) == decided


def test_nothing_is_loaded_of_an_unknown_account(db):
    make_site()
    assert lookup.load("shop", "nobody") is None
