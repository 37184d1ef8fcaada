"""Who changes by hand what is cached, and how, is in the audit."""

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from apps.access import audit
from apps.access.authentication import KeyUser
from apps.access.journal import AuditUnavailable
from apps.caching.models import CachePolicy
from tests.tokens.factories import caller

POLICIES = "/api/v1/automation/cache/policies"


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr(audit, "record", found.append)
    return found


@pytest.fixture
def api(db):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(KeyUser(pk=1, username="u"), token=caller(scopes=["operate"]))
    return client


def test_changes_over_the_api_are_told(api, lines):
    api.post(POLICIES, {"namespace": "invoices", "ttl_s": 60}, format="json")
    api.patch(f"{POLICIES}/invoices", {"ttl_s": 70}, format="json")
    api.delete(f"{POLICIES}/invoices/values")
    api.delete(f"{POLICIES}/invoices")

    assert [one.details for one in lines] == [
        {"cache_policy": "invoices", "created": {"ttl_s": 60}},
        {"cache_policy": "invoices", "changed": {"ttl_s": 70}},
        {"cleared": "invoices"},
        {"cache_policy": "invoices", "deleted": True},
    ]
    assert {(one.kind, one.principal_name) for one in lines} == {("settings", "filing-bot")}


def test_changes_on_the_pages_are_told(db, client, lines):
    client.force_login(get_user_model().objects.create_superuser("ann", password="x"))
    row = CachePolicy.objects.create(namespace="invoices", ttl_s=60)
    page = f"/admin/caching/cachepolicy/{row.pk}/change/"
    form = client.get(page).context["adminform"].form.initial
    values = {name: "" if value is None else value for name, value in form.items()}
    chosen = {"_selected_action": row.pk, "post": "yes"}
    assert client.post(page, values | {"ttl_s": 70}).status_code == 302
    client.post("/admin/caching/cachepolicy/", chosen | {"action": "clear_namespaces"})
    client.post("/admin/caching/cachepolicy/", chosen | {"action": "delete_selected"})

    assert [one.details for one in lines] == [
        {"cache_policy": "invoices", "changed": {"ttl_s": 70}},
        {"cleared": "invoices"},
        {"cache_policy": "invoices", "deleted": True},
    ]
    assert {(one.principal_kind, one.principal_name) for one in lines} == {("user", "ann")}
    assert not CachePolicy.objects.filter(namespace="invoices").exists()


def test_what_cannot_be_told_is_not_done(api, monkeypatch):
    CachePolicy.objects.create(namespace="invoices", ttl_s=60)

    def full(_line):
        raise AuditUnavailable

    monkeypatch.setattr(audit, "record", full)

    assert api.patch(f"{POLICIES}/invoices", {"ttl_s": 70}, format="json").status_code == 503
    assert api.delete(f"{POLICIES}/invoices").status_code == 503
    assert CachePolicy.objects.get(namespace="invoices").ttl_s == 60
