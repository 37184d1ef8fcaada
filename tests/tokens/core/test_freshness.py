"""Tokens are renewed before they end, though nobody asks."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.tokens.models import LoginAttempt, Site, StoredToken, TokenRequest
from apps.tokens.services import acquisition, directory, freshness, keeping
from apps.tokens.services.acquisition import AcquireSpec
from tests.tokens import scripted
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.work import work


def renewal_s(site, life_s=3600):
    at = timezone.now()
    end = at + timedelta(seconds=life_s)
    return (freshness.refresh_after(site, issued_at=at, usable_until=end) - at).total_seconds()


def test_the_lead_is_the_sites_own_before_there_is_a_history():
    site = make_site(refresh_lead_s=300)
    assert 3600 - 300 * 1.2 <= renewal_s(site) <= 3600 - 300


def test_the_lead_is_never_more_than_a_quarter_of_the_life():
    assert renewal_s(make_site(refresh_lead_s=3000), life_s=1000) >= 1000 * 0.75 * 0.9


def test_the_lead_grows_with_the_sites_login_times():
    account = make_account(make_site(refresh_lead_s=60))
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    work()
    begun = timezone.now() - timedelta(seconds=200)
    LoginAttempt.objects.update(started_at=begun, finished_at=begun + timedelta(seconds=100))
    assert renewal_s(account.site) <= 3600 - 300


def test_renewals_are_spread():
    site = make_site()
    assert len({round(renewal_s(site)) for _ in range(30)}) > 5


def test_tokens_that_stopped_working_early_teach_the_site():
    account = make_account(make_site())
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    work()
    StoredToken.objects.update(issued_at=timezone.now() - timedelta(seconds=1000))
    token = StoredToken.objects.select_related("account").get()
    freshness.learn_end(token)
    site = Site.objects.get(pk=account.site_id)
    assert 1000 < site.learned_ttl_s < 4600
    assert renewal_s(site, life_s=8000) < site.learned_ttl_s


def test_a_token_that_outlives_what_was_learned_teaches_too():
    account = make_account(make_site())
    acquisition.obtain(AcquireSpec(site="court_zxfw"), principal=caller())
    work()
    Site.objects.update(learned_ttl_s=100)
    token = StoredToken.objects.select_related("account").get()
    freshness.unlearn(token, at=token.issued_at + timedelta(seconds=900))
    assert Site.objects.get(pk=account.site_id).learned_ttl_s == 900


def test_the_best_accounts_are_kept_warm_without_a_caller():
    site = make_site(keep_warm=2, max_concurrent=5)
    for name in ("a", "b", "c"):
        make_account(site, name)
    assert keeping.tick() == 2
    work()
    assert sorted(scripted.logins) == ["a", "b"]
    assert keeping.tick() == 0


def test_a_warm_token_is_renewed_in_its_window():
    make_account(make_site(keep_warm=1))
    keeping.tick()
    work()
    StoredToken.objects.update(refresh_after=timezone.now())
    keeping.tick()
    assert TokenRequest.objects.filter(reason="refresh_ahead").count() == 1
    work()
    assert StoredToken.objects.get().version == 2


@pytest.mark.parametrize("fields", [{"paused": True}, {"enabled": False}, {"keep_warm": 0}])
def test_nothing_is_kept_warm_where_nothing_may_log_in(fields):
    make_account(make_site(**({"keep_warm": 1} | fields)))
    assert keeping.tick() == 0


def test_outside_the_warm_hours_nothing_is_kept_warm():
    day = (timezone.now() + timedelta(days=3)).strftime("%a").lower()
    hours = [{"days": [day], "from": "00:00", "to": "24:00"}]
    make_account(make_site(keep_warm=1, warm_hours=hours))
    assert keeping.tick() == 0


def test_what_is_cached_of_a_site_follows_its_rows():
    account = make_account(make_site(recipe={"fail": "AccountLocked"}))
    assert directory.site("court_zxfw")["enabled"] is True
    assert directory.blacklist("court_zxfw") == []
    assert directory.credentials("court_zxfw")[0]["username"] == "alice"
    acquisition.obtain(AcquireSpec(site="court_zxfw", account="alice"), principal=caller())
    work()
    assert directory.blacklist("court_zxfw")[0]["reason"] == "account_locked"
    assert directory.statistics("court_zxfw")[0]["failures"] == 1
    from apps.tokens.services import accounts, sites

    account.site.enabled = False
    sites.save(account.site)
    assert directory.site("court_zxfw")["enabled"] is False
    account.refresh_from_db()
    account.enabled = False
    accounts.update(account, fields=["enabled"])
    assert directory.credentials("court_zxfw") == []
