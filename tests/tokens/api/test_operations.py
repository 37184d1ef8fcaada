"""Requests, tokens, logins, workers, repairs and limits over REST."""

import json

import pytest
from django.utils import timezone

from apps.access.contracts import Grant, Scope
from apps.tokens.models import (
    AdmissionLimits,
    LoginAttempt,
    RecoveryAction,
    StoredToken,
    TokenRequest,
)
from apps.tokens.services import acquisition
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

ALICE = Grant(site="court_zxfw", account="alice")


@pytest.fixture
def site():
    found = make_site()
    make_account(found, labels=["eu"])
    return found


@pytest.fixture
def ask(api, site):
    """Acquire, as a client or as one with a key of its own."""

    def acquire(client=None, **body):
        answer = (client or api()).post("tokens/acquire", {"site": "court_zxfw", **body})
        return answer.json

    return acquire


@pytest.fixture
def stored(ask):
    ask()
    work()
    return StoredToken.objects.get()


def audited(settings, kind):
    lines = [
        json.loads(line)
        for path in settings.LATCHKEY_AUDIT_DIR.glob("*.open")
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if line["kind"] == kind]


def test_a_request_says_how_far_it_is(api, ask):
    path = f"requests/{ask()['request_id']}/status"
    waiting = api().get(path).json
    assert (waiting["status"], waiting["progress"], waiting["ask_again_s"] >= 1) == (
        "queued",
        0,
        True,
    )
    work()
    done = api().get(path).json
    assert (done["status"], done["stage"], done["progress"]) == ("done", "done", 100)
    assert (done["ask_again_s"], done["error_message"]) == (None, None)
    assert done["completed_at"] > done["created_at"]


def test_a_request_says_what_it_waits_for(api, ask):
    answer = api().get(f"requests/{ask()['request_id']}/explain")
    assert answer.status == 200
    assert [row["account"] for row in answer.json["accounts"]] == ["alice"]


def test_requests_are_filtered_ordered_and_shown_by_grant(api, ask):
    ask()
    ask(account="alice")
    assert api().get("requests?status=queued&ordering=created_at").json["count"] == 2
    assert api().get("requests?status=done").json["count"] == 0
    assert api().get("requests?account=alice&reason=no_token&queue=interactive").json["count"] == 1
    assert api().get("requests?site=other").json["count"] == 0
    assert api().get("requests?status=lost").status == 400
    assert api(ALICE).get("requests").json["count"] == 1
    assert api(Grant(site="other")).get("requests").json["count"] == 0
    assert api(scopes=(Scope.TOKENS_READ,)).get("requests").status == 403


def test_a_request_ends_when_the_last_who_asked_cancels(api, ask):
    one, two, stranger = api(), api(), api()
    path = f"requests/{ask(one)['request_id']}/cancel"
    ask(two)
    assert stranger.post(path).json == {"cancelled": False}
    assert one.post(path).json == {"cancelled": False}
    assert two.post(path).json == {"cancelled": True}
    assert TokenRequest.objects.get().status == "cancelled"


def test_who_never_asked_does_not_cancel_a_refresh(api, stored):
    acquisition.refresh_ahead(acquisition.lookup.view_of(stored))
    row = TokenRequest.objects.get(reason="refresh_ahead")
    assert api().post(f"requests/{row.pk}/cancel").json == {"cancelled": False}
    row.refresh_from_db()
    assert row.status == "queued"


def test_a_dead_letter_is_requeued(api, ask, site):
    pk = ask()["request_id"]
    assert api().post(f"requests/{pk}/requeue").json["code"] == "business_logic_error"
    TokenRequest.objects.update(status="dead", finished_at=timezone.now())
    assert api(scopes=(Scope.REQUESTS_READ,)).post(f"requests/{pk}/requeue").status == 403
    answer = api().post(f"requests/{pk}/requeue")
    assert (answer.status, answer.json["request_id"] != pk) == (202, True)
    assert TokenRequest.objects.get(pk=answer.json["request_id"]).status == "queued"


def test_stored_tokens_are_shown_without_what_is_secret(api, stored):
    for path in ("tokens", f"tokens/{stored.pk}"):
        answer = api().get(path)
        assert answer.status == 200
        assert stored.material["bearer"].encode() not in answer.raw
        assert stored.fingerprint.encode() in answer.raw


def test_stored_tokens_are_filtered_and_shown_by_grant(api, stored):
    assert api().get("tokens?site=court_zxfw&account=alice&revoked=false").json["count"] == 1
    assert api().get("tokens?revoked=true").json["count"] == 0
    assert api().get("tokens?expires_before=2020-01-01T00:00:00Z").json["count"] == 0
    assert api().get(f"tokens?fingerprint={stored.fingerprint}").json["count"] == 1
    assert api(Grant(site="*", label="eu")).get("tokens").json["count"] == 1
    assert api(Grant(site="*", label="us")).get(f"tokens/{stored.pk}").status == 404


def test_a_report_of_the_present_token_leads_to_one_login(api, stored, settings):
    body = {"outcome": "rejected", "fingerprint": stored.fingerprint}
    answer = api().post(f"tokens/{stored.pk}/report", body)
    assert (answer.status, answer.json) == (202, {"state": "dropped"})
    assert TokenRequest.objects.get(reason="rejected").status == "queued"
    (line,) = audited(settings, "report")
    assert line["details"] == {"state": "dropped"}


@pytest.mark.parametrize(
    "body",
    [{}, {"outcome": "rejected"}, {"outcome": "fine", "fingerprint": "x"}, {"fingerprint": 5}],
)
def test_a_bad_report_is_refused(api, stored, body):
    assert api().post(f"tokens/{stored.pk}/report", body).json["code"] == "validation_error"


def test_a_report_of_another_token_changes_nothing(api, stored):
    body = {"outcome": "rejected", "fingerprint": "something-else"}
    assert api().post(f"tokens/{stored.pk}/report", body).json == {"state": "superseded"}
    assert api(Grant(site="other")).post(f"tokens/{stored.pk}/report", body).status == 404


def test_a_revoked_token_is_not_handed_out(api, ask, stored, settings):
    path = f"tokens/{stored.pk}/revoke"
    assert api(scopes=(Scope.TOKENS_READ,)).post(path).status == 403
    assert api(Grant(site="other")).post(path).status == 404
    assert api().post(path, {"reason": "leaked"}).json == {"revoked": True}
    assert api().post(path).json == {"revoked": False}
    assert "request_id" in ask()
    assert {line["account"] for line in audited(settings, "revoke")} == {"alice"}


def test_logins_are_listed(api, ask, site):
    site.recipe = {"fail": ["NetworkFailure"]}
    site.save()
    ask()
    work()
    client = api()
    row = client.get("logins?outcome=failed&blame=network&error_code=network_error").json
    assert (row["count"], row["results"][0]["account"]) == (1, "alice")
    assert client.get(f"logins/{LoginAttempt.objects.get().pk}").status == 200
    assert client.get("logins?open=true").json["count"] == 0
    assert client.get(f"logins?request={TokenRequest.objects.get().pk}").json["count"] == 1
    assert api(Grant(site="other")).get("logins").json["count"] == 0
    assert api(ALICE).get("logins").json["count"] == 1


def test_workers_and_repairs_are_listed_for_operators(api, stored):
    RecoveryAction.objects.create(at=timezone.now(), kind="lost_login", subject="x")
    client = api()
    assert client.get("workers?cluster=default").json["count"] == 1
    assert client.get("repairs?kind=lost_login").json["count"] == 1
    assert client.get("repairs?kind=other").json["count"] == 0
    for page in ("workers", "repairs", "breakers", "breaker-transitions", "limits"):
        assert client.get(page).status == 200
        assert api(scopes=(Scope.SITES_READ,)).get(page).status == 403


def test_limits_are_shown_and_changed(api, settings):
    client = api()
    assert client.get("limits").json["max_concurrent"] == 3
    assert client.patch("limits", {"max_concurrent": 5}).json["max_concurrent"] == 5
    assert AdmissionLimits.current().max_concurrent == 5
    (line,) = audited(settings, "settings")
    assert line["details"] == {"max_concurrent": 5}


@pytest.mark.parametrize(
    "change",
    [{"max_concurrent": 0}, {"lease_s": 1}, {"in_doubt_resends": 2}, {"speed": 1}, {"id": 2}],
)
def test_a_bad_limit_is_refused(api, change):
    answer = api().patch("limits", change)
    assert (answer.status, [*answer.json["details"]["errors"]]) == (400, [*change])
    assert AdmissionLimits.current().max_concurrent == 3


def test_the_schema_describes_every_path_without_a_warning(tmp_path):
    from django.core.management import call_command

    target = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(target))
    assert "/api/v1/automation/tokens/acquire" in target.read_text()
