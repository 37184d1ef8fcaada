"""`acquire` answers the same over both faces: the edge, and Django behind it."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.access.contracts import Grant, Scope
from apps.access.models import ApiKey
from apps.access.services import revoke_key
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.models import Interest, LoginAttempt, TokenRequest
from tests.tokens.api.conftest import API, over_django, over_the_edge
from tests.tokens.factories import make_account, make_site
from tests.tokens.work import work

PROBLEM = {
    "type", "title", "status", "detail", "instance", "success", "error_type", "code", "message",
    "details", "timestamp", "user_message", "suggestions", "request_id",
}  # fmt: skip
GOOD = {"site": "court_zxfw", "max_wait_s": 0}


@pytest.fixture(params=[over_django, over_the_edge], ids=["django", "edge"])
def face(request):
    return request.param


@pytest.fixture
def site():
    found = make_site()
    make_account(found)
    return found


@pytest.fixture
def acquire(face, key, site, settings):
    """Send a body, as JSON or as it is, with a key that may do everything."""

    def send(body=GOOD, *, raw=None, **headers):
        headers = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if "x-api-key" not in headers and "authorization" not in headers:
            headers["x-api-key"] = key()
        content = json.dumps(body).encode() if raw is None else raw
        return face("POST", API + "tokens/acquire", headers=headers, body=content)

    return send


def written():
    return [model.objects.count() for model in (TokenRequest, Interest, LoginAttempt)] + [
        TokenAcquisitionHistory.objects.count()
    ]


def audit_lines(settings):
    return [
        line
        for path in settings.LATCHKEY_AUDIT_DIR.glob("*.open")
        for line in map(json.loads, path.read_text().splitlines())
        if line["kind"] == "hand_out"
    ]


def refused(answer, status, code):
    """Check a problem, and that nothing was written for it."""
    assert (answer.status, answer.json["code"]) == (status, code)
    assert PROBLEM <= set(answer.json) <= PROBLEM | {"retry_after_s"}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    assert written() == [0, 0, 0, 0]
    return answer


def test_a_missing_token_is_a_ticket(acquire):
    answer = acquire()
    assert answer.status == 202
    assert set(answer.json) == {
        "request_id", "status", "stage", "progress", "current_step", "estimated_remaining_time",
        "ask_again_s", "status_url", "ttl_unattainable", "waiting_for",
    }  # fmt: skip
    assert answer.json["status_url"].endswith(f"{answer.json['request_id']}/status")
    assert answer.headers["content-type"] == "application/json"


def test_a_stored_token_is_handed_out(acquire, settings):
    acquire()
    work()
    answer = acquire({"site": "court_zxfw", "account": "alice", "purpose": "filing"})
    assert answer.status == 200
    assert set(answer.json) == {
        "id", "site", "account", "fingerprint", "version", "issued_at", "expires_at",
        "usable_until", "cached", "refreshing", "ttl_unattainable", "token",
    }  # fmt: skip
    assert set(answer.json["token"]) == {
        "bearer", "headers", "cookies", "local_storage", "session_storage", "user_agent", "proxy",
    }  # fmt: skip
    assert answer.json["token"]["bearer"] == "token-1-alice"
    assert answer.json["cached"] is True
    assert answer.headers["cache-control"] == "no-store"
    (line,) = audit_lines(settings)
    assert (line["token_fingerprint"], line["purpose"]) == (answer.json["fingerprint"], "filing")
    assert line["request_id"] == answer.headers["x-request-id"]


def test_the_key_may_be_a_bearer(acquire, key):
    assert acquire(authorization=f"Bearer {key()}").status == 202


def test_the_longest_life_a_site_gives_is_enough(acquire):
    answer = acquire(GOOD | {"min_ttl_s": 86_400})
    assert (answer.status, answer.json["ttl_unattainable"]) == (202, True)


def test_an_unknown_site(acquire):
    refused(acquire(GOOD | {"site": "nowhere"}), 404, "unknown_site")


@pytest.mark.parametrize("name", ["bob", "*", "ALICE", "alice "])
def test_an_unknown_account(acquire, name):
    answer = acquire(GOOD | {"account": name})
    if name.strip() == "alice":  # white space around a name is not part of it
        assert answer.status == 202
    else:
        refused(answer, 404, "unknown_account")


def test_an_unknown_account_beside_a_stored_token(acquire):
    acquire()
    work()
    assert acquire(GOOD).status == 200
    assert acquire(GOOD | {"account": "*"}).json["code"] == "unknown_account"


def test_a_key_without_a_grant_for_the_site(acquire, key):
    refused(acquire(x_api_key=key(Grant(site="other"))), 404, "unknown_site")


def test_a_key_for_another_account(acquire, key):
    mine = key(Grant(site="court_zxfw", account="bob"))
    refused(acquire(GOOD | {"account": "alice"}, x_api_key=mine), 404, "unknown_account")


def test_a_key_without_the_scope(acquire, key):
    answer = refused(acquire(x_api_key=key(scopes=(Scope.SITES_READ,))), 403, "permission_denied")
    assert answer.json["details"] == {"scope": "tokens:read"}


def test_the_scope_is_asked_for_before_the_body_is_read(acquire, key):
    refused(acquire({}, x_api_key=key(scopes=(Scope.SITES_READ,))), 403, "permission_denied")


@pytest.mark.parametrize("text", ["lk_abcdefgh_" + "x" * 43, "nonsense", "lk_"])
def test_a_wrong_key(acquire, text):
    answer = refused(acquire(x_api_key=text), 401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_expired_key(acquire, key):
    text = key()
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    refused(acquire(x_api_key=text), 401, "not_authenticated")


def test_a_revoked_key(acquire, key):
    text = key()
    revoke_key(ApiKey.objects.get(), by=None)
    refused(acquire(x_api_key=text), 401, "not_authenticated")


def test_a_caller_over_its_limit(acquire, key):
    text = key(rate_limit_per_minute=1)
    answers = [acquire(GOOD | {"site": "nowhere"}, x_api_key=text) for _ in range(3)]
    answer = refused(answers[-1], 429, "rate_limited")  # the minute may have turned in between
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_a_disabled_site(acquire, site):
    site.enabled = False
    site.save()
    refused(acquire(), 409, "site_disabled")


def test_a_site_without_a_usable_account(acquire, site):
    site.accounts.update(enabled=False)
    answer = refused(acquire(), 409, "no_account_available")
    assert answer.json["details"] == {"reasons": {"account_disabled": 1}}


BAD_FIELDS = {
    "unknown": {"acount": "alice"},
    "account-number": {"account": ["alice"]},
    "account-empty": {"account": ""},
    "account-long": {"account": "a" * 201},
    "site-null": {"site": None},
    "site-object": {"site": {}},
    "site-long": {"site": "s" * 65},
    "ttl-negative": {"min_ttl_s": -1},
    "ttl-over": {"min_ttl_s": 365 * 86_400 + 1},
    "ttl-huge": {"min_ttl_s": 2**63 - 1},
    "ttl-text": {"min_ttl_s": "long"},
    "ttl-fraction": {"min_ttl_s": 1.5},
    "wait-negative": {"max_wait_s": -0.1},
    "wait-over": {"max_wait_s": 300.1},
    "wait-nan": {"max_wait_s": "nan"},
    "wait-infinite": {"max_wait_s": "inf"},
    "wait-huge": {"max_wait_s": 1e300},
    "wait-null": {"max_wait_s": None},
    "force-text": {"force": "perhaps"},
    "force-null": {"force": None},
    "version-negative": {"known_version": -1},
    "version-text": {"known_version": "newest"},
    "purpose-long": {"purpose": "p" * 201},
    "purpose-list": {"purpose": []},
}


@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_named(acquire, fields):
    answer = refused(acquire(GOOD | fields), 400, "validation_error")
    assert set(answer.json["details"]["errors"]) == set(fields)


@pytest.mark.parametrize("raw", [b"", b"{}"])
def test_a_missing_site_is_named(acquire, raw):
    answer = refused(acquire(raw=raw), 400, "validation_error")
    assert set(answer.json["details"]["errors"]) == {"site"}


def test_a_huge_version_is_not_waited_for(acquire):
    assert acquire(GOOD | {"force": True, "known_version": 10**18}).status == 202


BAD_BODIES = {
    "text": b'"court_zxfw"',
    "number": b"5",
    "nan": b'{"site": "court_zxfw", "max_wait_s": NaN}',
    "infinity": b'{"site": "court_zxfw", "max_wait_s": Infinity}',
    "overflow": b'{"site": "court_zxfw", "max_wait_s": 1e999}',
    "broken": b'{"site": "court',
    "twice": b'{"site": "a", "site": "court_zxfw"}',
    "latin-1": '{"site": "é"}'.encode("latin-1"),
    "utf-16": '{"site": "court_zxfw"}'.encode("utf-16"),
    "nul": b'{"site": "court_zxfw", "purpose": "\\u0000"}',
    "surrogate": b'{"site": "court_zxfw", "purpose": "\\ud800"}',
    "65 bits": b'{"site": "court_zxfw", "min_ttl_s": 18446744073709551616}',
    "digits": b'{"site": "court_zxfw", "known_version": ' + b"9" * 5_000 + b"}",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("raw", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_not_strict_json(acquire, raw):
    refused(acquire(raw=raw), 400, "invalid_json")


@pytest.mark.parametrize("body", [[], [GOOD]])
def test_a_body_that_is_no_object(acquire, body):
    refused(acquire(body), 400, "validation_error")


def test_a_large_body(acquire):
    answer = refused(acquire(GOOD | {"purpose": "x" * 1024 * 1024}), 413, "body_too_large")
    assert answer.json["details"]["maximum_bytes"] < 1024 * 1024


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type(acquire, kind):
    refused(acquire(content_type=kind), 415, "unsupported_media_type")


def test_another_charset(acquire):
    refused(acquire(content_type="application/json; charset=latin-1"), 400, "invalid_json")


def test_a_charset_that_is_named(acquire):
    assert acquire(content_type='application/json; charset="UTF-8"').status == 202


def test_problems_speak_chinese(acquire):
    answer = refused(
        acquire(GOOD | {"site": "nowhere"}, accept_language="zh-Hans,en;q=0.5"),
        404,
        "unknown_site",
    )
    assert answer.headers["content-language"] == "zh-hans"
    assert any("\u4e00" <= letter <= "\u9fff" for letter in answer.json["user_message"])


def test_a_person_with_a_session_is_served_by_django(site, admin_client):
    answer = admin_client.post(
        API + "tokens/acquire", json.dumps(GOOD), content_type="application/json"
    )
    assert answer.status_code == 202


def test_a_stranger_is_refused():
    answer = over_django("POST", API + "tokens/acquire", headers={}, body=b"{}")
    refused(answer, 401, "not_authenticated")
