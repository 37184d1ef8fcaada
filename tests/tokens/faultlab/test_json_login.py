"""The JSON login, and the faults every flow shares."""

import base64
import json
import time

import httpx
import pytest

from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.counters import Counts
from apps.tokens.faultlab.sites import Site
from tests.tokens.faultlab.support import GOOD, eventually, login, login_many, me, send

pytest_plugins = ["tests.lab"]


def test_a_login_gives_a_token_that_works(lab: LabClient) -> None:
    url = lab.put("s", session_ttl_s=120)
    answer = login(url).json()
    assert answer["expires_in"] == 120
    assert answer["token_type"] == "Bearer"
    assert answer["refresh_token"]
    assert me(url, answer["access_token"]) == 200


def test_only_named_accounts_may_log_in(lab: LabClient) -> None:
    url = lab.put("s", accounts={"anna": {"password": "x"}})
    assert [login(url, *pair).status_code for pair in (("anna", "x"), ("bert", "x"))] == [200, 401]


def test_latency_is_kept(lab: LabClient) -> None:
    url = lab.put("s", latency_s=0.3)
    began = time.monotonic()
    login(url)
    assert 0.3 <= time.monotonic() - began < 2


def test_jitter_is_repeatable() -> None:
    def latencies(seed: int) -> list[float]:
        site = Site("s", Counts())
        site.behave({"latency_s": 1, "latency_jitter_s": 0.5, "seed": seed})
        return [site.latency_s() for _ in range(20)]

    assert latencies(3) == latencies(3) != latencies(4)
    assert all(1 <= each <= 1.5 for each in latencies(3))
    assert len(set(latencies(3))) == 20


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("401", 401, "invalid_credentials"),
        ("429", 429, "too_many_requests"),
        ("500", 500, "unavailable"),
        ("502", 502, "unavailable"),
        ("503", 503, "unavailable"),
    ],
)
def test_a_fault_answers_once_and_then_the_site_is_well(lab, fault, status, error) -> None:
    url = lab.put("s", faults=[fault])
    first, second = login(url), login(url)
    assert (first.status_code, first.json()["error"]) == (status, error)
    assert second.status_code == 200


def test_429_says_when_to_come_back(lab: LabClient) -> None:
    faults = ["429", {"fault": "429", "retry_after_s": 0.5}]
    url = lab.put("s", faults=faults, retry_after_s=30)
    assert [login(url).headers["retry-after"] for _ in range(2)] == ["30", "1"]
    lab.put("s", faults=["429"])
    assert "retry-after" not in login(url).headers


def test_reset_cuts_the_connection(lab: LabClient) -> None:
    url = lab.put("s", faults=["reset"])
    with pytest.raises(httpx.ReadError):
        login(url)
    (entry,) = lab.log("s")
    assert (entry["outcome"], entry["disconnected"]) == ("reset", False)
    assert lab.counts("s")["logins_failed"] == 1


def test_hang_ends_after_its_time(lab: LabClient) -> None:
    url = lab.put("s", faults=["hang"], hang_s=0.2)
    assert login(url).status_code == 504


def test_garbage_is_no_json_and_status_200(lab: LabClient) -> None:
    answer = login(lab.put("s", faults=["garbage"]))
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_wrong_passwords_in_a_row_lock_the_account(lab: LabClient) -> None:
    url = lab.put("s", lockout_after=2, lockout_s=600)
    login(url, password="x")
    login(url)
    assert [login(url, password="x").status_code for _ in range(3)] == [401, 401, 423]
    locked = login(url)
    assert locked.status_code == 423
    assert 590 < int(locked.headers["retry-after"]) <= 600
    assert login(url, "bert").status_code == 200
    counts = lab.counts("s")
    assert (counts["lockouts"], counts["refused_locked"]) == (1, 2)


def test_a_lockout_ends(lab: LabClient) -> None:
    url = lab.put("s", lockout_after=1, lockout_s=1)
    assert [login(url, password="x").status_code, login(url).status_code] == [401, 423]
    eventually(lambda: login(url).status_code == 200)


def test_a_lockout_without_an_end_does_not_say_when_to_come_back(lab: LabClient) -> None:
    url = lab.put("s", lockout_after=1)
    login(url, password="x")
    assert "retry-after" not in login(url).headers


def test_over_the_limit_a_site_answers_429_at_once(lab: LabClient) -> None:
    url = lab.put("s", latency_s=0.5, max_concurrent=2)
    statuses = login_many(url, [("anna", GOOD)] * 5)
    assert (statuses.count(200), statuses.count(429)) == (2, 3)
    assert lab.counts("s")["rate_limited"] == 3


def test_a_site_that_is_down_answers_503_everywhere(lab: LabClient) -> None:
    url = lab.put("s")
    token = login(url).json()["access_token"]
    lab.patch("s", down=True, faults=["401"])
    statuses = [
        send(method, f"{url}/{path}", data={"grant_type": "refresh_token"}).status_code
        for method, path in [
            ("GET", "health"), ("GET", "home"), ("GET", "login"),
            ("POST", "oauth/token"), ("POST", "api/logout"),
        ]
    ]  # fmt: skip
    assert {*statuses, login(url).status_code, me(url, token)} == {503}
    lab.patch("s", down=None)
    assert login(url).status_code == 401, "the fault was kept for when the site is up"


def test_a_session_may_die_before_it_said(lab: LabClient) -> None:
    url = lab.put("s", session_dies_after_s=1)
    answer = login(url).json()
    assert answer["expires_in"] == 3600
    assert me(url, answer["access_token"]) == 200
    eventually(lambda: me(url, answer["access_token"]) == 401)


def test_an_idle_session_dies_and_a_used_one_lives(lab: LabClient) -> None:
    url = lab.put("s", idle_ttl_s=1)
    used, idle = (login(url).json()["access_token"] for _ in range(2))
    for _ in range(3):
        time.sleep(0.4)
        assert me(url, used) == 200
    assert me(url, idle) == 401


def test_a_single_session_ends_with_the_next_login(lab: LabClient) -> None:
    url = lab.put("s", single_session=True)
    old = login(url).json()["access_token"]
    other = login(url, "bert").json()["access_token"]
    new = login(url).json()["access_token"]
    assert [me(url, token) for token in (old, other, new)] == [401, 200, 200]


def test_sessions_end_for_one_account_or_for_all(lab: LabClient) -> None:
    url = lab.put("s")
    anna, bert = (login(url, name).json()["access_token"] for name in ("anna", "bert"))
    assert lab.invalidate("s", "anna") == 1
    assert [me(url, token) for token in (anna, bert)] == [401, 200]
    assert lab.invalidate("s") == 1
    assert me(url, bert) == 401


def test_logout_ends_the_session(lab: LabClient) -> None:
    url = lab.put("s")
    token = login(url).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    send("POST", f"{url}/api/logout", headers=headers)
    assert me(url, token) == 401
    assert lab.counts("s")["accounts"]["anna"]["logouts"] == 1


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [({}, 3600), ({"expires_in": 60}, 60), ({"expires_in": "absent"}, None)],
)
def test_what_a_site_says_about_expiry(lab, behaviour, said) -> None:
    assert login(lab.put("s", **behaviour)).json().get("expires_in") == said


def test_a_jwt_names_its_owner_and_its_end(lab: LabClient) -> None:
    url = lab.put("s", token_shape="jwt", expires_in=60)
    token = login(url).json()["access_token"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == "anna"
    assert claims["exp"] == claims["iat"] + 60
    assert me(url, token) == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"username": 1}', b'{"password": "x"}'])
def test_what_cannot_be_read_is_a_failed_login_of_nobody(lab: LabClient, body: bytes) -> None:
    url = lab.put("s")
    answer = send("POST", f"{url}/api/login", content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "malformed")
    counts = lab.counts("s")
    assert (counts["logins_started"], counts["logins_failed"], counts["accounts"]) == (1, 1, {})
