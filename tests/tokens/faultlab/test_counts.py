"""The counts are exact: this is what every promise of the product is measured with."""

import json
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from apps.tokens.faultlab.client import LabClient
from tests.tokens.faultlab.support import GOOD, eventually, login, login_many, me, send

pytest_plugins = ["tests.lab"]


def assert_balanced(counts: dict) -> None:
    ended = counts["logins_succeeded"] + counts["logins_failed"] + counts["disconnects"]
    assert counts["logins_started"] == ended + counts["concurrent_now"]


BODY = b'{"username": "anna", "password": "correct-horse"}'
HEAD = b"POST /s/api/login HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
LOGIN = HEAD + BODY


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def test_a_hundred_clients_at_once_are_counted_exactly(lab: LabClient) -> None:
    url = lab.put("s", latency_s=1)
    pairs = [(f"user{n % 20}", GOOD if n < 60 else "wrong") for n in range(100)]

    statuses = login_many(url, pairs)

    counts = lab.counts("s")
    accounts = counts.pop("accounts")
    assert (statuses.count(200), statuses.count(401)) == (60, 40)
    expected = {
        "logins_started": 100,
        "logins_succeeded": 60,
        "logins_failed": 40,
        "disconnects": 0,
        "concurrent_now": 0,
        "concurrent_max": 100,
        "wrong_secrets": 40,
        "wrong_secret_repeats": 20,
        "max_wrong_repeats": 1,
    }
    assert {name: counts[name] for name in expected} == expected
    assert len(accounts) == 20
    for account in accounts.values():
        assert (account["logins_started"], account["concurrent_max"]) == (5, 5)
        assert (account["wrong_secrets"], account["wrong_secret_repeats"]) == (2, 1)
        assert_balanced(account)
    assert_balanced(counts)


def test_logins_one_after_the_other_are_never_concurrent(lab: LabClient) -> None:
    url = lab.put("s")
    for _ in range(5):
        login(url)
    counts = lab.counts("s")
    assert (counts["logins_started"], counts["concurrent_max"]) == (5, 1)


def test_the_peak_over_all_sites_is_of_one_moment(lab: LabClient) -> None:
    first, second = (lab.put(name, latency_s=0.4) for name in ("a", "b"))
    login_many(first, [("anna", GOOD)] * 3)
    login_many(second, [("anna", GOOD)] * 4)
    counts = lab.counts()
    assert [counts["sites"][name]["concurrent_max"] for name in ("a", "b")] == [3, 4]
    assert counts["all"]["concurrent_max"] == 4
    assert counts["all"]["logins_started"] == 7


def test_a_killed_client_counts_until_its_connection_closes(lab: LabClient) -> None:
    url = lab.put("s", latency_s=30)
    code = "import httpx, sys; httpx.post(sys.argv[1], json={'username': 'anna'}, timeout=60)"
    client = subprocess.Popen([sys.executable, "-c", code, f"{url}/api/login"])
    try:
        eventually(lambda: lab.counts("s")["concurrent_now"] == 1)
        assert lab.counts("s")["accounts"]["anna"]["concurrent_now"] == 1
        client.send_signal(signal.SIGKILL)
        eventually(lambda: lab.counts("s")["concurrent_now"] == 0)
    finally:
        client.kill()
        client.wait()

    counts = lab.counts("s")
    (attempt,) = lab.log("s")
    assert (counts["disconnects"], counts["logins_succeeded"], counts["logins_failed"]) == (1, 0, 0)
    assert attempt["disconnected"] is True
    assert attempt["end_s"] - attempt["start_s"] < 20
    assert_balanced(counts)
    assert_balanced(counts["accounts"]["anna"])


def test_a_killed_client_of_a_hanging_site_is_noticed_too(lab: LabClient) -> None:
    url = lab.put("s", faults=["hang"])
    with connected(url) as client:
        client.sendall(LOGIN)
        eventually(lambda: lab.counts("s")["concurrent_now"] == 1)
    eventually(lambda: lab.counts("s")["disconnects"] == 1)
    assert lab.counts("s")["concurrent_now"] == 0


def test_a_login_counts_before_its_body_has_arrived(lab: LabClient) -> None:
    url = lab.put("s")
    with connected(url) as client:
        client.sendall(b"POST /s/api/login HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
        eventually(lambda: lab.counts("s")["concurrent_now"] == 1)
    eventually(lambda: lab.counts("s")["concurrent_now"] == 0)
    assert lab.counts("s")["disconnects"] == 1
    assert lab.counts("s")["accounts"] == {}


def test_a_slow_answer_counts_until_its_last_byte(lab: LabClient) -> None:
    url = lab.put("s", faults=["slow_body"], slow_body_s=0.5)
    assert login(url).status_code == 200
    (attempt,) = lab.log("s")
    assert attempt["end_s"] - attempt["start_s"] >= 0.5
    assert lab.counts("s")["logins_succeeded"] == 1


def test_a_client_that_leaves_a_slow_answer_is_a_disconnect(lab: LabClient) -> None:
    url = lab.put("s", faults=["slow_body"], slow_body_s=60)
    with connected(url) as client:
        client.sendall(LOGIN)
        assert client.recv(10)
        assert lab.counts("s")["concurrent_now"] == 1
    eventually(lambda: lab.counts("s")["disconnects"] == 1)
    assert lab.counts("s")["logins_succeeded"] == 0


def test_repeats_are_of_the_same_wrong_secret_of_the_same_account(lab: LabClient) -> None:
    url = lab.put("s")
    for username, password in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"), ("a", "x")]:
        login(url, username, password)
    counts = lab.counts("s")
    assert (counts["wrong_secrets"], counts["wrong_secret_repeats"]) == (5, 2)
    assert counts["max_wrong_repeats"] == 2
    assert counts["accounts"]["b"]["wrong_secret_repeats"] == 0


def test_a_wrong_secret_counts_whatever_the_site_answers(lab: LabClient) -> None:
    url = lab.put("s", faults=["503", "reset"])
    login(url, password="x")
    with pytest.raises(Exception, match="reset"):
        login(url, password="x")
    lab.patch("s", down=True)
    login(url, password="x")
    counts = lab.counts("s")
    assert (counts["wrong_secrets"], counts["wrong_secret_repeats"]) == (3, 2)


def test_a_repeat_after_rejection_needs_a_rejection_that_was_heard(lab: LabClient) -> None:
    url = lab.put("s", faults=["503", "ok", "ok"])
    login(url, password="x")
    login(url, password="x")
    assert lab.counts("s")["repeats_after_rejection"] == 0
    login(url, password="x")
    assert lab.counts("s")["repeats_after_rejection"] == 1


def test_a_rejection_nobody_heard_is_none(lab: LabClient) -> None:
    url = lab.put("s", accounts={"anna": "other"}, faults=["slow_body"], slow_body_s=60)
    with connected(url) as client:
        client.sendall(LOGIN)
        assert client.recv(10)
    eventually(lambda: lab.counts("s")["disconnects"] == 1)
    assert login(url).status_code == 401
    counts = lab.counts("s")
    assert (counts["wrong_secret_repeats"], counts["repeats_after_rejection"]) == (1, 0)


def test_a_right_secret_called_wrong_is_a_rejection_and_no_wrong_secret(lab: LabClient) -> None:
    url = lab.put("s", faults=["401"])
    assert [login(url).status_code for _ in range(3)] == [401, 200, 200]
    counts = lab.counts("s")
    assert (counts["wrong_secrets"], counts["repeats_after_rejection"]) == (0, 1)


def test_the_log_has_every_login_and_no_secret(lab: LabClient) -> None:
    url = lab.put("s", faults=["ok", "503"])
    login(url, password="hunter2-secret")
    login(url, password="hunter2-secret")
    login(url, "bert")
    first, second, third = lab.log("s")
    assert [entry["sequence"] for entry in (first, second, third)] == [1, 2, 3]
    assert (first["outcome"], first["status"]) == ("wrong_password", 401)
    assert (second["outcome"], second["status"], second["fault"]) == ("unavailable", 503, "503")
    assert (third["account"], third["outcome"]) == ("bert", "ok")
    assert first["secret"] == second["secret"] != third["secret"]
    assert "hunter2" not in json.dumps([first, second, third])


def test_what_a_reset_cuts_does_not_touch_the_new_counts(lab: LabClient) -> None:
    url = lab.put("s", faults=["hang"])
    with connected(url) as client:
        client.sendall(LOGIN)
        eventually(lambda: lab.counts("s")["concurrent_now"] == 1)
        assert lab.reset() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    lab.put("s")
    counts = lab.counts()
    assert counts["all"]["concurrent_now"] == 0
    assert counts["all"]["disconnects"] == 0
    assert_balanced(counts["all"])


def test_checks_and_health_are_counted(lab: LabClient) -> None:
    url = lab.put("s")
    token = login(url).json()["access_token"]
    assert [me(url, token), me(url, token), me(url, "nonsense")] == [200, 200, 401]
    assert send("GET", f"{url}/health").json() == {"status": "ok"}
    counts = lab.counts("s")
    assert (counts["token_checks"], counts["rejected_checks"], counts["health_checks"]) == (3, 1, 1)
    assert counts["accounts"]["anna"]["token_checks"] == 2
