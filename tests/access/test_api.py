from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from apps.access import audit, services
from apps.access.authentication import ApiKeyAuthentication
from apps.access.contracts import ANY_SITE, AuditKind, AuditRecord, Grant, Scope
from apps.access.leases import LEASES
from apps.access.models import ApiKey, AuditEntry
from apps.access.permissions import scope
from apps.access.selectors import PERMISSION_OF_SCOPE, principal_of_user
from apps.common import clock
from apps.common.errors import NotAuthenticated, NotPermitted

pytestmark = pytest.mark.urls("tests.access.urls")

KEYS = "/api/v1/automation/keys"
AUDIT = "/api/v1/automation/audit"


def request_with(raw, method="get"):
    made = getattr(APIRequestFactory(), method)("/", HTTP_X_API_KEY=raw)
    return Request(made, authenticators=[ApiKeyAuthentication()])


@pytest.fixture(autouse=True)
def no_leases():
    LEASES.reset()


@pytest.fixture
def client(issue):
    """A client with a key of its own."""

    def make(**wanted):
        client = APIClient()
        client.key, raw = issue(**wanted)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
        return client

    return make


def test_without_a_key_there_is_a_401_that_says_how(db):
    answer = APIClient().get(KEYS)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer.json()["code"] == "not_authenticated"


@pytest.mark.parametrize("header", ["Bearer lk_nonsense", "Bearer", "Bearer a b", "bearer \xff"])
def test_a_wrong_key_is_a_401(db, header):
    assert APIClient(HTTP_AUTHORIZATION=header).get(KEYS).status_code == 401


def test_a_key_may_come_as_x_api_key(issue):
    _, raw = issue()
    assert APIClient(HTTP_X_API_KEY=raw).get(KEYS).status_code == 200


def test_a_key_is_made_and_shown_once(client):
    answer = client().post(
        KEYS,
        {
            "name": "report job",
            "scopes": ["tokens:read"],
            "grants": [{"site": "shop", "label": "eu"}, {"site": "shop", "label": "eu"}],
            "rate_limit_per_minute": 30,
        },
        format="json",
    )
    assert answer.status_code == 201, answer.json()
    assert answer["Cache-Control"] == "no-store"
    principal = services.authenticate(answer.json()["key"])
    assert principal.name == "report job"
    assert principal.scopes == {"tokens:read"}
    assert principal.grants == (Grant(site="shop", label="eu"),)
    assert answer.json()["grants"] == [{"site": "shop", "account": "", "label": "eu"}]


def test_no_list_shows_a_key(client):
    caller = client()
    raw = caller.post(KEYS, {"name": "x"}, format="json").json()["key"]
    shown = caller.get(KEYS).content.decode()
    assert raw not in shown
    assert "digest" not in shown


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x", "scopes": ["export"]}, 403),
        ({"name": "x", "grants": [{"site": "*"}]}, 403),
        ({"name": "x", "grants": [{"site": "shop"}]}, 403),
        ({"name": "x", "rate_limit_per_minute": 601}, 403),
        ({"name": "x", "scopes": ["nonsense"]}, 400),
        ({"name": "", "scopes": []}, 400),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, 400),
        ({"name": "x", "rate_limit_per_minute": 0}, 400),
        ({"name": "x", "grants": [{"site": "shop", "account": "bob"}]}, 201),
    ],
)
def test_a_key_makes_no_stronger_key(client, body, status):
    caller = client(scopes=[Scope.KEYS_WRITE], grants=[Grant(site="shop", account="bob")])
    assert caller.post(KEYS, body, format="json").status_code == status


def test_keys_need_their_scope(client):
    caller = client(scopes=[Scope.TOKENS_READ])
    assert caller.get(KEYS).status_code == 403
    assert caller.post(KEYS, {"name": "x"}, format="json").status_code == 403


def test_a_key_is_revoked(client):
    caller = client()
    made = caller.post(KEYS, {"name": "x"}, format="json").json()
    services.authenticate(made["key"])
    answer = caller.post(f"{KEYS}/{made['id']}/revoke")
    assert answer.status_code == 200
    assert answer.json()["revoked_at"]
    with pytest.raises(NotAuthenticated):
        services.authenticate(made["key"])
    assert ApiKey.objects.filter(pk=made["id"]).exists()


def test_keys_of_others_do_not_exist(client, issue):
    other = get_user_model().objects.create_user("eve")
    key, raw = issue(user_id=other.pk)
    caller = client()
    assert caller.get(f"{KEYS}/{key.pk}").status_code == 404
    assert caller.post(f"{KEYS}/{key.pk}/revoke").status_code == 404
    assert services.authenticate(raw)
    assert caller.get(KEYS).json()["count"] == 1


def test_keys_can_be_filtered_and_ordered(client, issue):
    caller = client(name="b")
    issue(name="a")
    services.revoke_key(issue(name="c")[0], by=None)
    names = [row["name"] for row in caller.get(KEYS, {"ordering": "name"}).json()["results"]]
    assert names == ["a", "b", "c"]
    (gone,) = caller.get(KEYS, {"revoked": "true"}).json()["results"]
    assert gone["name"] == "c"


def test_making_and_revoking_a_key_is_in_the_audit(client):
    caller = client()
    made = caller.post(KEYS, {"name": "x"}, format="json").json()
    caller.post(f"{KEYS}/{made['id']}/revoke")
    audit.import_journals()
    entries = AuditEntry.objects.filter(principal_id=str(caller.key.pk)).order_by("at")
    assert [entry.kind for entry in entries] == ["key_issued", "key_revoked"]
    assert {entry.details["prefix"] for entry in entries} == {made["prefix"]}
    assert made["key"] not in str(list(AuditEntry.objects.values()))


def test_a_key_that_cannot_be_written_down_is_not_made(client, monkeypatch):
    caller = client()

    def full(line):
        raise audit.AuditUnavailable

    monkeypatch.setattr(audit.JOURNAL, "append", full)
    assert caller.post(KEYS, {"name": "x"}, format="json").status_code == 503
    assert ApiKey.objects.count() == 1


@pytest.fixture
def entries(issue):
    """Hand-outs of two accounts of `shop` and one of `bank`, imported."""
    key, raw = issue(name="reader")
    principal = services.authenticate(raw)
    for site, account in (("shop", "bob"), ("shop", "eve"), ("bank", "bob")):
        audit.record(AuditRecord.by(principal, kind=AuditKind.HAND_OUT, site=site, account=account))
    audit.import_journals()
    return key


def seen(caller, **query):
    answer = caller.get(AUDIT, {"kind": "hand_out", **query})
    assert answer.status_code == 200, answer.json()
    return [(row["site"], row["account"]) for row in answer.json()["results"]]


def test_the_audit_can_be_filtered(client, entries):
    caller = client()
    assert len(seen(caller)) == 3
    assert seen(caller, site="bank") == [("bank", "bob")]
    assert len(seen(caller, account="bob")) == 2
    assert len(seen(caller, key=entries.prefix)) == 3
    assert seen(caller, key="00000000") == []
    assert seen(caller, kind="export") == []
    assert seen(caller, until=(clock.now() - timedelta(hours=1)).isoformat()) == []
    assert len(seen(caller, since=(clock.now() - timedelta(hours=1)).isoformat())) == 3


def test_the_audit_is_ordered_and_paged(client, entries):
    caller = client()
    ordered = seen(caller, ordering="site,-account", page_size="2")
    assert ordered == [("bank", "bob"), ("shop", "eve")]
    assert seen(caller, ordering="site,-account", page_size="2", page="2") == [("shop", "bob")]


@pytest.mark.parametrize(
    ("grant", "expected"),
    [
        (Grant(site=ANY_SITE), {("shop", "bob"), ("shop", "eve"), ("bank", "bob")}),
        (Grant(site="shop"), {("shop", "bob"), ("shop", "eve")}),
        (Grant(site="shop", account="bob"), {("shop", "bob")}),
        (Grant(site=ANY_SITE, account="bob"), {("shop", "bob"), ("bank", "bob")}),
        (Grant(site="shop", label="eu"), set()),
    ],
)
def test_the_audit_shows_what_the_grants_name(client, entries, grant, expected):
    assert set(seen(client(grants=[grant]))) == expected


def test_the_audit_needs_its_scope(client):
    assert client(scopes=[Scope.KEYS_WRITE]).get(AUDIT).status_code == 403


def test_the_audit_costs_the_same_for_many_entries(client, entries, django_assert_max_num_queries):
    caller = client()
    caller.get(AUDIT)
    # The count, the page, and now and then a lease of the rate limit.
    with django_assert_max_num_queries(3):
        seen(caller)


def test_over_the_limit_is_a_429_with_retry_after(client):
    caller = client(rate_limit_per_minute=2)
    statuses = [caller.get(KEYS).status_code for _ in range(4)]
    # The minute of the clock may end between two of them.
    assert statuses.count(429) in (1, 2)
    answer = caller.get(KEYS)
    if answer.status_code == 429:
        assert int(answer["Retry-After"]) <= 60


def person(**fields):
    return get_user_model().objects.create_user("pat", **fields)


def test_a_superuser_may_do_everything(db):
    principal = principal_of_user(person(is_superuser=True))
    assert principal.kind == "user"
    assert principal.scopes == set(Scope)
    assert principal.may_read(site="any", account="")


def test_a_person_without_permissions_may_do_nothing(db):
    principal = principal_of_user(person(is_staff=True))
    assert principal.scopes == frozenset()
    assert not principal.may_read_site("shop")


def test_permissions_become_scopes_and_grants(db):
    user = person(is_staff=True)
    for codename in ("change_allowed_hosts", "use_any_site"):
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label="access", codename=codename)
        )
    principal = principal_of_user(user)
    assert principal.scopes == {"hosts:write"}
    assert principal.may_read_site("shop")


def test_every_scope_has_a_permission_that_exists(db):
    ours = {perm for perm in PERMISSION_OF_SCOPE.values() if perm.startswith("access.")}
    known = Permission.objects.filter(content_type__app_label="access")
    assert set(PERMISSION_OF_SCOPE) == set(Scope)
    assert ours <= {f"access.{perm.codename}" for perm in known}


def test_somebody_switched_off_is_nobody(db):
    with pytest.raises(NotAuthenticated):
        principal_of_user(person(is_superuser=True, is_active=False))


def test_a_session_works_like_a_key(db):
    caller = APIClient()
    caller.force_login(person(is_superuser=True))
    assert caller.get(KEYS).status_code == 200


@pytest.mark.parametrize(
    ("method", "needed", "other"),
    [("get", "sites:read", "sites:write"), ("post", "sites:write", "sites:read")],
)
def test_reading_and_writing_need_their_own_scope(issue, method, needed, other):
    permission = scope(read=Scope.SITES_READ, write=Scope.SITES_WRITE)()
    assert permission.has_permission(request_with(issue(scopes=[needed])[1], method), None)
    with pytest.raises(NotPermitted) as caught:
        permission.has_permission(request_with(issue(scopes=[other])[1], method), None)
    assert caught.value.details == {"scope": needed}


def test_a_key_never_has_its_users_permissions(issue, user):
    user.is_superuser = user.is_staff = True
    user.save()
    _, raw = issue(scopes=[])
    who, principal = ApiKeyAuthentication().authenticate(request_with(raw))
    assert principal.scopes == frozenset()
    assert not who.has_perm("access.view_auditentry")
    assert not who.is_staff
    assert not who.is_superuser
    assert who.pk == user.pk
