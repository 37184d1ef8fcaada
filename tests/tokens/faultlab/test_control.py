"""The control paths, the process and the command."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from django.core.management import CommandError, call_command

from apps.tokens.faultlab import server
from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.process import LabFailed, LabProcess
from tests.tokens.faultlab.support import eventually, login, send

pytest_plugins = ["tests.lab"]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a lab that should refuse would start, rather than serve until the time-out."""
    monkeypatch.setattr(server, "_serve", lambda *_: None)
    monkeypatch.setattr(server.uvloop, "run", lambda _: pytest.fail("it started"))


def test_a_bad_behaviour_is_refused_and_changes_nothing(lab: LabClient) -> None:
    lab.put("s", latency_s=0)
    with pytest.raises(httpx.HTTPStatusError, match="did you mean latency_s"):
        lab.put("s", latncy_s=1)
    with pytest.raises(httpx.HTTPStatusError, match="must be true or false"):
        lab.patch("s", down=3)
    answer = send("GET", f"{lab.url}/_lab/sites/s")
    assert answer.json() == {"site": "s", "behaviour": {"latency_s": 0}}


@pytest.mark.parametrize("name", ["_lab2", "a b", "-x", "x" * 81])
def test_a_site_needs_a_plain_name(lab: LabClient, name: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="name must match"):
        lab.put(name)


def test_a_patch_merges_and_keeps_the_place_in_the_faults(lab: LabClient) -> None:
    url = lab.put("s", faults=["503", "502"], accounts={"anna": {"password": "x"}})
    assert login(url).status_code == 503
    lab.patch("s", accounts={"bert": {"password": "y"}})
    assert login(url).status_code == 502
    assert [login(url, *pair).status_code for pair in (("anna", "x"), ("bert", "y"))] == [200, 200]
    lab.patch("s", accounts={"anna": {"password": "new"}})
    assert [login(url, "anna", word).status_code for word in ("x", "new")] == [401, 200]


def test_a_put_starts_the_faults_anew_and_keeps_counts_and_sessions(lab: LabClient) -> None:
    url = lab.put("s", faults=["503"])
    assert [login(url).status_code for _ in range(2)] == [503, 200]
    lab.put("s", faults=["503"])
    assert login(url).status_code == 503
    assert lab.counts("s")["logins_started"] == 3


def test_a_site_that_was_not_made_does_not_exist(lab: LabClient) -> None:
    assert login(f"{lab.url}/nowhere").status_code == 404
    lab.put("s")
    lab.delete("s")
    assert login(f"{lab.url}/s").status_code == 404
    with pytest.raises(httpx.HTTPStatusError, match="unknown_site"):
        lab.counts("s")


def test_the_first_page_and_the_health_answer(lab: LabClient) -> None:
    assert "Fault lab" in send("GET", f"{lab.url}/").text
    assert send("GET", f"{lab.url}/_lab/healthy").json() == {"status": "ok", "sites": 0}
    assert send("GET", f"{lab.url}/_lab/nothing").status_code == 404
    assert send("POST", f"{lab.url}/_lab/sites/s/counts").status_code == 404


def test_a_note_is_in_the_log(lab: LabClient) -> None:
    url = lab.put("s")
    body = {"username": "a", "password": "b"}
    send("POST", f"{url}/api/login", json=body, headers={"x-lab-note": "n" * 300})
    assert lab.log("s")[0]["note"] == "n" * 200


def test_the_demo_site_is_there_and_survives_a_reset() -> None:
    with LabProcess("--demo") as process, LabClient(process.url) as lab:
        lab.reset()
        lab.patch("court_zxfw", latency_s=0)
        answer = login(f"{lab.url}/court_zxfw", "demo")
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 3600)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_whoever_hangs(signum: int) -> None:
    process = LabProcess()
    body = b'{"username": "a", "password": "b"}'
    parts = urlsplit(process.url)
    try:
        with (
            LabClient(process.url) as lab,
            socket.create_connection((parts.hostname, parts.port)) as client,
        ):
            lab.put("s", faults=["hang"])
            head = b"POST /s/api/login HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(
                body
            )
            client.sendall(head + body)
            eventually(lambda: lab.counts("s")["concurrent_now"] == 1)
            process.process.send_signal(signum)
            assert process.process.wait(60) == 0
    finally:
        process.process.kill()
        process.stop()


def test_it_is_ready_after_less_than_a_second_of_work() -> None:
    with LabProcess() as process:
        spent = psutil.Process(process.process.pid).cpu_times()
    assert spent.user + spent.system < 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_it_serves_this_machine_only(host: str, never_starts: None) -> None:
    with pytest.raises(server.HostRefused):
        server.run(host, 0, demo=False, announce=lambda url: None)


def test_the_module_refuses_production_settings() -> None:
    with pytest.raises(LabFailed, match="code 2"):
        LabProcess(env={"DJANGO_SETTINGS_MODULE": "config.settings.production"})


def test_the_command_refuses_settings_that_do_not_allow_it(settings, never_starts: None) -> None:
    settings.LATCHKEY_ALLOW_FAULT_LAB = False
    with pytest.raises(CommandError, match="do not allow"):
        call_command("fault_lab")
    del settings.LATCHKEY_ALLOW_FAULT_LAB
    with pytest.raises(CommandError, match="do not allow"):
        call_command("fault_lab")


def test_the_command_refuses_other_hosts(settings, never_starts: None) -> None:
    settings.LATCHKEY_ALLOW_FAULT_LAB = True
    with pytest.raises(CommandError, match="loopback only"):
        call_command("fault_lab", host="0.0.0.0", port=0)


def test_a_port_that_is_taken_is_an_error(lab: LabClient, never_starts: None) -> None:
    with pytest.raises(OSError, match="in use"):
        server.run("127.0.0.1", urlsplit(lab.url).port, demo=False, announce=lambda url: None)


def test_the_command_says_where_it_is_and_ends_on_a_signal() -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "fault_lab", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": "sqlite:////nonexistent/none.sqlite3"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert send("GET", f"{url}/_lab/healthy").status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_observer_knows_nothing_of_what_it_observes() -> None:
    code = (
        "import sys, apps.tokens.faultlab.__main__, apps.tokens.faultlab.recipes;"
        "print([n for n in sys.modules if n.split('.')[0] in ('django', 'httpx', 'config')"
        " or n.startswith('apps.') and not n.startswith('apps.tokens.faultlab')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['apps.tokens']"
