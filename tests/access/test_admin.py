import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.access import services
from apps.access.models import ApiKey
from apps.common.errors import NotAuthenticated

pytestmark = pytest.mark.urls("tests.access.urls")
ADD = "/admin/access/apikey/add/"
KEY = re.compile(r"lk_[0-9a-f]{8}_[0-9a-f]{64}")


def form(user, **fields):
    return {
        "user": user.pk,
        "name": "from the admin",
        "scopes": ["tokens:read"],
        "sites": "shop\nbank,bob",
        "expires_at_0": "",
        "expires_at_1": "",
        "rate_limit_per_minute": "",
    } | fields


def test_a_key_is_issued_and_shown_once(admin_client, user):
    assert admin_client.get(ADD).status_code == 200
    answer = admin_client.post(ADD, form(user), follow=True)
    raw = KEY.search(answer.content.decode()).group()
    principal = services.authenticate(raw)
    assert principal.user_id == user.pk
    assert [(grant.site, grant.account) for grant in principal.grants] == [
        ("bank", "bob"),
        ("shop", ""),
    ]
    again = admin_client.get("/admin/access/apikey/")
    assert not KEY.search(again.content.decode())


def test_the_page_of_a_key_shows_no_digest(admin_client, issue):
    key, _ = issue()
    page = admin_client.get(reverse("admin:access_apikey_change", args=[key.pk])).content.decode()
    assert key.prefix in page
    assert key.digest not in page


def test_a_person_cannot_issue_more_than_they_hold(client, user):
    pat = get_user_model().objects.create_user("pat", is_staff=True)
    for codename in ("add_apikey", "view_apikey"):
        pat.user_permissions.add(Permission.objects.get(codename=codename))
    client.force_login(pat)
    answer = client.post(ADD, form(user))
    assert "scopes you do not hold" in answer.content.decode()
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("sites", [",bob", "a,b,c,d"])
def test_a_line_that_is_no_grant_is_refused(admin_client, user, sites):
    answer = admin_client.post(ADD, form(user, sites=sites))
    assert "site,account,label" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_by_an_action(admin_client, issue):
    key, raw = issue()
    services.authenticate(raw)
    admin_client.post(
        "/admin/access/apikey/", {"action": "revoke", "_selected_action": [str(key.pk)]}
    )
    with pytest.raises(NotAuthenticated):
        services.authenticate(raw)


def test_no_key_is_changed_or_deleted(admin_client, issue):
    key, _ = issue()
    for view in ("change", "delete"):
        url = reverse(f"admin:access_apikey_{view}", args=[key.pk])
        assert admin_client.post(url, {"name": "other", "post": "yes"}).status_code == 403
    key.refresh_from_db()
    assert key.name == "robot"


@pytest.mark.parametrize("model", ["apikey", "sitegrant", "auditentry", "ratewindow"])
def test_every_list_opens(admin_client, issue, model):
    issue()
    assert admin_client.get(f"/admin/access/{model}/?q=x").status_code == 200
