"""What is cached is compared with the rows, and dropped where somebody changed them behind us."""

import math
from datetime import timedelta

import pytest

from apps.caching import resolving
from apps.caching import services as cache
from apps.caching.contracts import Policy
from apps.caching.runtime import current
from apps.common import clock
from apps.tokens.models import Account, Site, StoredToken
from apps.tokens.services import directory, lookup, syncing, warming
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

SITE = "court_zxfw"


@pytest.fixture
def told(monkeypatch):
    reasons = []
    monkeypatch.setattr(
        "apps.common.events.cache_incident", lambda *, reason: reasons.append(reason)
    )
    return reasons


@pytest.fixture
def warm(told):
    make_account(make_site())
    warming.warm([SITE])
    work()
    warming.warm([SITE])
    lookup.pool(SITE)


def test_a_normal_life_is_in_sync(warm, told):
    found = syncing.check()

    assert (found.checked, found.synced, found.out_of_sync, found.cache_miss) == (5, 5, 0, 0)
    assert not told


def test_what_nobody_asked_for_is_missing_and_no_mistake(warm):
    cache.clear_all()

    assert (syncing.check().cache_miss, syncing.check().cached) == (5, 0)


@pytest.mark.parametrize(
    ("change", "namespace", "key"),
    [
        (lambda: StoredToken.objects.update(fingerprint="x"), "tokens", f"{SITE}/alice"),
        (lambda: Site.objects.update(hand_out="spread"), "site_configuration", SITE),
        (lambda: Account.objects.update(preferred=True), "credentials", SITE),
        (lambda: Account.objects.update(success_count=9), "account_statistics", SITE),
        (lambda: Account.objects.update(labels=["x"]), "tokens", SITE),
    ],
    ids=["token", "site", "credentials", "statistics", "pool"],
)
def test_what_was_changed_behind_us_is_dropped_and_told(change, namespace, key, warm, told):
    change()

    only_looked = syncing.check(repair=False)
    assert only_looked.out_of_sync >= 1
    assert cache.exists(namespace, key)
    assert syncing.check().out_of_sync == only_looked.out_of_sync
    assert not cache.exists(namespace, key)
    assert syncing.check().out_of_sync == 0
    assert set(told) == {"out_of_sync"}


def test_a_change_while_it_looks_is_no_mistake(warm, monkeypatch):
    def changes_meanwhile(slug):
        cache.delete(directory.SITES, slug)
        return {"slug": slug, "changed": "meanwhile"}

    monkeypatch.setattr(
        directory, "LOADERS", {**directory.LOADERS, directory.SITES: changes_meanwhile}
    )

    assert syncing.check().out_of_sync == 0


def test_a_list_of_blocks_ends_with_the_first_of_them(told, monkeypatch):
    process = current()
    process.policies._known["blacklist"] = Policy(namespace="blacklist", ttl_s=900, l1_ttl_s=900)
    process.told_until = math.inf
    rests = clock.now() + timedelta(seconds=60)
    account = make_account(make_site(), cooldown_until=rests, cooldown_reason="rest")
    assert [block["reason"] for block in directory.blacklist(SITE)] == ["rest"]
    Account.objects.filter(pk=account.pk).update(cooldown_until=None)
    assert directory.blacklist(SITE), "nobody told the cache"

    began = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: began + 61)
    monkeypatch.setattr(resolving, "wall", lambda: rests.timestamp() + 1)
    assert directory.blacklist(SITE) == []
