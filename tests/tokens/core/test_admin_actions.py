"""What an operator can do from the admin's lists."""

import pytest
from django.contrib.auth import get_user_model

from apps.tokens.models import SecretVerdict, Site, TokenRequest
from apps.tokens.services import warming
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work


@pytest.fixture
def operator(client):
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


def act(client, page, action, row):
    data = {"action": action, "_selected_action": [str(row.pk)]}
    answer = client.post(f"/admin/tokens/{page}/", data, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_warming_up_a_site_queues_its_missing_logins(operator):
    account = make_account(make_site())
    assert "1 logins queued" in act(operator, "site", "warm_up", account.site)
    assert TokenRequest.objects.get().reason == "warm_up"


def test_some_accounts_are_warmed_up(operator):
    site = make_site()
    make_account(site, "alice")
    bob = make_account(site, "bob")
    assert "1 logins queued" in act(operator, "account", "warm_up", bob)
    assert TokenRequest.objects.get().account == bob


def test_the_list_of_sites_says_how_warm_they_are(operator):
    site = make_site()
    make_account(site, "alice")
    make_account(site, "off", enabled=False)
    make_account(make_site("other"), "carol")
    assert "0 of 1" in operator.get("/admin/tokens/site/").content.decode()
    warming.warm([site.slug])
    work()
    assert "1 of 1" in operator.get("/admin/tokens/site/").content.decode()


def test_a_site_is_paused_and_resumed(operator):
    site = make_site()
    act(operator, "site", "pause", site)
    assert Site.objects.get().paused
    act(operator, "site", "resume", site)
    assert not Site.objects.get().paused


def test_one_more_attempt_is_allowed_and_audited(operator, monkeypatch):
    from apps.access.journal import JOURNAL

    lines = []
    monkeypatch.setattr(JOURNAL, "append", lines.append)
    account = make_account(make_site())
    act(operator, "account", "allow_attempt", account)
    assert SecretVerdict.objects.get().allowed_once_by == "root"
    assert b"allow_attempt" in lines[0]


def test_who_may_only_look_is_offered_nothing(client):
    from django.contrib.auth.models import Permission

    user = get_user_model().objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_site"))
    client.force_login(user)
    site = make_site()
    act(client, "site", "pause", site)
    assert not Site.objects.get().paused
