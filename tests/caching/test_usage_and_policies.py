"""Policies are rows that every process follows; usage is rows that every process adds to."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from rest_framework.test import APIRequestFactory, force_authenticate

from apps.caching import background, services, usage
from apps.caching.background import TRUST_S
from apps.caching.contracts import SHIPPED, Layer
from apps.caching.models import CacheGeneration, CachePolicy, CacheUsage
from apps.caching.runtime import current
from apps.caching.viewsets import CachePolicyViewSet, CacheUsageViewSet
from apps.common import clock
from tests.caching.conftest import as_process, until, use_redis

DAY_S = 86_400
migration = import_module("apps.caching.migrations.0002_shipped_policies")


@pytest.fixture
def shipped(db):
    with connection.schema_editor() as editor:
        migration.write(apps, editor)


@pytest.fixture
def operator(db):
    return get_user_model().objects.create_superuser("operator", password="x")


def call(view, method, path, user, data=None, **kwargs):
    request = getattr(APIRequestFactory(), method)(path, data, format="json")
    force_authenticate(request, user)
    return view(request, **kwargs)


@pytest.mark.django_db(transaction=True)
def test_what_ships_is_what_the_code_starts_with(shipped):
    assert {row.to_contract() for row in CachePolicy.objects.all()} == set(SHIPPED)
    lives = set(CachePolicy.objects.values_list("ttl_s", flat=True))
    assert {7 * DAY_S, 30 * DAY_S, DAY_S, 3_600} <= lives


@pytest.mark.django_db(transaction=True)
def test_an_operators_policy_outlives_the_migration(shipped):
    CachePolicy.objects.filter(namespace="tokens").update(ttl_s=60)
    with connection.schema_editor() as editor:
        migration.write(apps, editor)

    assert CachePolicy.objects.get(namespace="tokens").ttl_s == 60


@pytest.mark.django_db(transaction=True)
def test_a_saved_policy_is_applied_at_once_in_this_process():
    CachePolicy.objects.create(namespace="invoices", l1_entries=3)
    for number in range(5):
        services.set("invoices", str(number), number)

    assert current().space("invoices").size()[0] == 3
    CachePolicy.objects.get(namespace="invoices").delete()
    assert services.policies().get("invoices") is None


@pytest.mark.parametrize("redis", [False, True], ids=["alone", "redis"])
def test_a_saved_policy_is_applied_in_every_process(
    redis, settings, valkey, processes, monkeypatch
):
    if redis:
        use_redis(settings, valkey.url)
        # Whoever is told need not look.
        monkeypatch.setattr(background, "LOOK_EVERY_S", 3_600)
    one, two = processes(2)
    with as_process(one):
        CachePolicy.objects.create(namespace="invoices", ttl_s=77)

    until(lambda: two.policies.of("invoices").ttl_s == 77)


@pytest.mark.parametrize("namespace", ["tokens", "credentials"])
def test_secrets_stay_secret_and_short_in_a_process(namespace, db):
    with pytest.raises(ValidationError):
        CachePolicy(namespace=namespace, secret=False, l1_ttl_s=5).clean()
    with pytest.raises(ValidationError):
        CachePolicy(namespace=namespace, secret=True, l1_ttl_s=6).clean()
    CachePolicy.objects.update_or_create(
        namespace=namespace, defaults={"secret": False, "l1_ttl_s": 3_600}
    )
    services.reload_policies()

    policy = services.policies()[namespace]
    assert (policy.secret, policy.l1_ttl_s) == (True, 5)


def test_a_deleted_value_leaves_other_processes_that_have_no_redis(processes, monkeypatch):
    monkeypatch.setattr(background, "LOOK_EVERY_S", 0.05)
    one, two = processes(2)
    with as_process(two):
        services.set("site_configuration", "key", "old")
    with as_process(one):
        services.delete("site_configuration", "key")
    with as_process(two):
        until(lambda: services.get("site_configuration", "key") is None)
        services.set("site_configuration", "mine", 1)
        until(lambda: not two.generations._marked)
        assert services.get("site_configuration", "mine") == 1, "one's own change is no news"


def test_a_deaf_process_trusts_its_entries_for_five_seconds(monkeypatch):
    services.set("site_configuration", "key", 1)
    process, began = current(), clock.monotonic()
    process.told_until = began
    for passed_s, found in ((4.9, 1), (5.1, None)):
        monkeypatch.setattr(clock, "monotonic", lambda passed_s=passed_s: began + passed_s)
        assert services.get("site_configuration", "key") == found


def test_a_process_knows_that_it_hears_nothing(with_redis, processes):
    """Its entries are then trusted for as long as the test above says, and no longer."""
    (one,) = processes(1)
    assert one.told_until - clock.monotonic() <= TRUST_S
    with_redis.hang()
    try:
        until(lambda: clock.monotonic() > one.told_until)
        with as_process(one):
            until(lambda: "invalidation_not_live" in services.health().reasons)
    finally:
        with_redis.wake()
    until(lambda: clock.monotonic() < one.told_until)


@pytest.mark.django_db(transaction=True)
def test_a_process_that_has_just_begun_is_well(with_redis, settings, monkeypatch):
    settings.LATCHKEY_CACHE_BACKGROUND = True
    # It does not listen yet, and its first judgement is still to come.
    monkeypatch.setattr(background.Background, "_listen", lambda self, shared: self._stop.wait())
    assert (services.health().status, services.health().reasons) == ("ok", ())

    monkeypatch.setattr(current(), "began", clock.monotonic() - TRUST_S - 1)
    assert services.health().reasons == ("invalidation_not_live",)


@pytest.mark.django_db(transaction=True)
def test_a_failed_delete_is_made_up_for_when_the_database_returns(with_redis, monkeypatch):
    services.set("tokens", "key", "revoked")
    runtime = current()
    runtime.shared.guard.suspect("timeout")
    monkeypatch.setattr(runtime.shared, "probe", lambda: False)
    write = runtime.generations._write

    def down(*args):
        raise OperationalError("the database is down")

    runtime.generations._write = down
    services.delete("tokens", "key")
    assert services.health().pending_invalidations == 1
    runtime.generations._write = write
    runtime.generations.settle()
    runtime.shared.guard.proven(writable=True)

    assert services.get("tokens", "key") is None
    assert services.health().pending_invalidations == 0
    assert CacheGeneration.objects.get().namespace == "tokens"


@pytest.mark.django_db
def test_usage_is_added_up_by_minute_and_layer(with_redis):
    services.get_or_load("tokens", "key", lambda: None)
    services.get("tokens", "key")
    current().forget_space("*")
    services.get("tokens", "key")
    before = {(row.namespace, row.layer): row for row in services.statistics(60)}
    services.flush_statistics()
    services.get("tokens", "key")
    after = {(row.namespace, row.layer): row for row in services.statistics(60)}

    l1, l2, loader = (before["tokens", layer] for layer in Layer)
    assert (l1.hits, l1.negative_hits, l1.misses) == (1, 1, 2)
    assert (l2.hits, l2.negative_hits, l2.misses, l2.entries) == (1, 1, 1, 1)
    assert (loader.loads, loader.errors) == (1, 0)
    assert after["tokens", "l1"].hits == 2
    assert after["tokens", "l1"].hit_rate == 0.5
    assert after["tokens", "l1"].entries == 1
    assert after["tokens", "l1"].bytes == 12 + 1 + 16, "nonce, packed None and tag"


@pytest.mark.django_db
def test_counts_wait_for_a_database_that_is_away(monkeypatch):
    services.get("tokens", "key")

    def down():
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(usage.connection, "ensure_connection", down)
        with pytest.raises(OperationalError):
            services.flush_statistics()
    services.flush_statistics()

    assert CacheUsage.objects.get(layer="l1").misses == 1


@pytest.mark.django_db
def test_old_usage_is_cleaned_in_batches():
    now = clock.now()
    for minutes in range(7):
        CacheUsage.objects.create(
            namespace="tokens", layer="l1", minute=now - timedelta(minutes=minutes)
        )

    assert usage.clean(older_than=now - timedelta(minutes=2, seconds=30), batch=2) == 4
    assert CacheUsage.objects.count() == 3


def test_policies_over_http(operator):
    view = CachePolicyViewSet.as_view({"post": "create", "get": "list"})
    one = CachePolicyViewSet.as_view({"patch": "partial_update", "delete": "destroy"})

    made = call(view, "post", "/", operator, {"namespace": "invoices", "ttl_s": 7 * DAY_S})
    bad = call(view, "post", "/", operator, {"namespace": "No Good"})
    rude = call(view, "post", "/", operator, {"namespace": "pins", "secret": True, "l1_ttl_s": 60})
    found = call(view, "get", "/?namespace=invoices", operator)
    moved = call(one, "patch", "/", operator, {"namespace": "other"}, namespace="invoices")
    changed = call(one, "patch", "/", operator, {"jitter": 0}, namespace="invoices")
    gone = call(one, "delete", "/", operator, namespace="invoices")

    assert (made.status_code, made.data["ttl_s"]) == (201, 7 * DAY_S)
    assert (bad.status_code, rude.status_code, moved.status_code) == (400, 400, 400)
    assert [row["namespace"] for row in found.data["results"]] == ["invoices"]
    assert (changed.status_code, changed.data["jitter"]) == (200, 0)
    assert gone.status_code == 204


def test_a_namespace_is_cleared_over_http(operator):
    CachePolicy.objects.get_or_create(namespace="tokens", defaults={"secret": True, "l1_ttl_s": 5})
    services.set("tokens", "key", 1)
    view = CachePolicyViewSet.as_view({"delete": "values"})

    answer = call(view, "delete", "/", operator, namespace="tokens")

    assert (answer.status_code, services.get("tokens", "key")) == (204, None)


def test_usage_over_http_needs_the_permission_to_see_it(operator):
    CacheUsage.objects.create(namespace="tokens", layer="l1", minute=clock.now(), hits=3, misses=1)
    view = CacheUsageViewSet.as_view({"get": "list"})
    nobody = get_user_model().objects.create_user("nobody")

    found = call(view, "get", "/?layer=l1", operator)

    assert [row["hit_rate"] for row in found.data["results"]] == [0.75]
    assert call(view, "get", "/?layer=l2", operator).data["results"] == []
    assert call(view, "get", "/", nobody).status_code == 403


def test_lists_are_ordered_and_paged(operator):
    for number in range(3):
        CacheUsage.objects.create(
            namespace=f"n{number}", layer="l1", minute=clock.now(), hits=number, misses=10 - number
        )
        CachePolicy.objects.create(namespace=f"n{number}", ttl_s=100 - number)
    usage_list = CacheUsageViewSet.as_view({"get": "list"})
    policy_list = CachePolicyViewSet.as_view({"get": "list"})

    most = call(usage_list, "get", "/?ordering=-hits&page_size=2&page=2", operator).data
    short = call(policy_list, "get", "/?ordering=ttl_s&namespace__startswith=n", operator).data
    later = call(usage_list, "get", "/?since=2100-01-01T00:00:00Z", operator).data

    assert (most["count"], [row["namespace"] for row in most["results"]]) == (3, ["n0"])
    assert [row["namespace"] for row in short["results"]] == ["n2", "n1", "n0"]
    assert later["results"] == []


@pytest.mark.django_db(transaction=True)
def test_a_policy_is_edited_and_a_namespace_cleared_in_the_admin(operator, client):
    policy = CachePolicy.objects.create(namespace="invoices")
    client.force_login(operator)
    fields = {
        name: getattr(policy, name)
        for name in ("ttl_s", "l1_ttl_s", "l1_entries", "jitter", "negative_ttl_s",
                     "stale_if_error_s", "early_refresh")
    }  # fmt: skip
    page = f"/admin/caching/cachepolicy/{policy.pk}/change/"

    assert client.post(page, fields | {"ttl_s": 0}).status_code == 200, "refused, shown again"
    assert client.post(page, fields | {"ttl_s": 120}).status_code == 302
    assert services.policies()["invoices"].ttl_s == 120

    services.set("invoices", "key", 1)
    chosen = {"action": "clear_namespaces", "_selected_action": [str(policy.pk)]}
    client.post("/admin/caching/cachepolicy/", chosen)
    assert services.get("invoices", "key") is None


@pytest.mark.parametrize("model", ["cachepolicy", "cacheusage", "cachegeneration"])
def test_every_row_can_be_seen_in_the_admin(model, operator, client):
    CachePolicy.objects.get_or_create(namespace="tokens")
    CacheUsage.objects.create(namespace="tokens", layer="l1", minute=clock.now())
    CacheGeneration.objects.create(namespace="tokens", token="00" * 8)
    client.force_login(operator)

    page = client.get(f"/admin/caching/{model}/")

    assert page.status_code == 200
    assert b"tokens" in page.content
