"""Every page of the admin opens, also after signing in, and none shows a secret."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from apps.tokens.models import (
    Account,
    AdmissionLimits,
    ClusterBeat,
    RecoveryAction,
    RefreshToken,
    Site,
    StoredToken,
    TokenReport,
)
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

PASSWORD, SEED, PROXY = "canary-password-71", "CANARYSEED234567", "canary-proxy-93"
PROXY_URL = f"http://u:{PROXY}@proxy:1"
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


@pytest.fixture
def rows(api):
    """A row of every kind that a login makes, and of some that take more."""
    site = make_site(recipe={"refresh": True}, proxy=PROXY_URL)
    make_account(site, secrets={"password": PASSWORD, "totp_secret": SEED})
    api().post("tokens/acquire", {"site": "court_zxfw"})
    work()
    at, token = timezone.now(), StoredToken.objects.get()
    TokenReport.objects.create(
        token=token, fingerprint="f", principal_kind="key", principal_id="1", at=at
    )
    RecoveryAction.objects.create(at=at, kind="lost_login", subject="x")
    ClusterBeat.objects.create(cluster="default", host="h", asked_at=at)
    AdmissionLimits.objects.create(pk=1)
    return {
        PASSWORD,
        SEED,
        PROXY,
        token.material["bearer"],
        RefreshToken.objects.get().secret["token"],
    }


def opened(client, url, secrets):
    answer = client.get(url)
    assert answer.status_code == 200, url
    text = answer.content.decode()
    assert not [secret for secret in secrets if secret in text], url
    return text


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_every_page_of_a_model_opens_without_a_secret(admin_client, rows, model):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    opened(admin_client, reverse(f"{name}_changelist"), rows)
    opened(admin_client, reverse(f"{name}_changelist") + "?q=alice", rows)
    if admin_client.get(reverse(f"{name}_add")).status_code != 403:
        opened(admin_client, reverse(f"{name}_add"), rows)
    for row in model._default_manager.all()[:2]:
        opened(admin_client, reverse(f"{name}_change", args=[row.pk]), rows)
        opened(admin_client, reverse(f"{name}_history", args=[row.pk]), rows)


def test_every_model_of_the_token_app_has_a_row_to_look_at(rows):
    """The test above looks at real rows, not at empty lists."""
    from apps.tokens import models

    optional = {"SiteBreaker", "BreakerTransition"}  # made by failures, which have tests elsewhere
    empty = {
        name
        for name in models.__all__
        if hasattr(getattr(models, name), "objects") and not getattr(models, name).objects.exists()
    }
    assert empty <= optional


def form_of(page):
    """Return the values a page's form would send."""
    form = page.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    return {
        name: value for name, value in values.items() if value is not None and value is not False
    }


def test_an_account_is_saved_in_the_admin_without_losing_its_secrets(admin_client, rows):
    account = Account.objects.get()
    url = reverse("admin:tokens_account_change", args=[account.pk])
    data = form_of(admin_client.get(url)) | {"labels": '["eu"]', "preferred": "on"}
    assert admin_client.post(url, data).status_code == 302
    account.refresh_from_db()
    assert (account.labels, account.preferred) == (["eu"], True)
    assert account.secrets == {"password": PASSWORD, "totp_secret": SEED}


def test_a_new_password_is_set_in_the_admin(admin_client, rows):
    account = Account.objects.get()
    url = reverse("admin:tokens_account_change", args=[account.pk])
    data = form_of(admin_client.get(url)) | {"labels": "[]", "password": " new word "}
    assert admin_client.post(url, data).status_code == 302
    account.refresh_from_db()
    assert account.secrets == {"password": " new word ", "totp_secret": SEED}
    assert account.credential_version == 2


def test_what_was_sealed_with_a_lost_key_is_shown_and_set_again(admin_client, rows, settings):
    settings.LATCHKEY_KEYS = "t2:" + "QkJC" * 10 + "QkI="
    account, site = Account.objects.get(), Site.objects.get()
    pages = {row: reverse(f"admin:tokens_{row._meta.model_name}_change", args=[row.pk])
             for row in (account, site)}  # fmt: skip
    sealed = stored_proxy(site)
    named = form_of(admin_client.get(pages[site])) | {"name": "Court"}
    assert admin_client.post(pages[site], named).status_code == 302
    assert stored_proxy(site) == sealed
    assert admin_client.post(pages[site], named | {"proxy_url": PROXY_URL}).status_code == 302
    data = form_of(admin_client.get(pages[account])) | {"labels": "[]", "password": PASSWORD}
    assert admin_client.post(pages[account], data).status_code == 302
    account.refresh_from_db()
    assert account.secrets == {"password": PASSWORD}


def stored_proxy(site):
    return Site.objects.values_list("proxy", flat=True).get(pk=site.pk).data


def test_a_broken_recipe_is_told_in_the_form(admin_client, rows):
    url = reverse("admin:tokens_site_change", args=[Site.objects.get().pk])
    data = form_of(admin_client.get(url))
    data |= {"connector": "http_recipe", "recipe": '{"version": 1}'}
    answer = admin_client.post(url, data)
    assert answer.status_code == 200
    assert "steps" in str(answer.context["adminform"].form.errors["recipe"])
    assert Site.objects.get().connector == "scripted"


def test_saving_a_site_in_the_admin_keeps_its_proxy(admin_client, rows):
    site = Site.objects.get()
    url = reverse("admin:tokens_site_change", args=[site.pk])
    data = form_of(admin_client.get(url)) | {"name": "Court"}
    answer = admin_client.post(url, data)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    site.refresh_from_db()
    assert (site.name, site.proxy) == ("Court", PROXY_URL)


def test_a_person_without_permissions_sees_no_page(client, django_user_model, rows):
    client.force_login(django_user_model.objects.create_user("guest", is_staff=True))
    for model in MODELS:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(reverse(f"{name}_changelist")).status_code == 403


def test_tokens_are_revoked_in_the_admin(admin_client, rows):
    token = StoredToken.objects.get()
    data = {"action": "revoke_tokens", "_selected_action": [str(token.pk)]}
    url = reverse("admin:tokens_storedtoken_changelist")
    assert admin_client.post(url, data).status_code == 302
    token.refresh_from_db()
    assert timezone.now() - token.revoked_at < timedelta(minutes=1)


def test_signing_in_leads_to_the_first_page(client, django_user_model):
    django_user_model.objects.create_superuser("ops", password="of this test")
    given = {"username": "ops", "password": "of this test"}
    assert client.post("/admin/login/", given).url == "/admin/"
