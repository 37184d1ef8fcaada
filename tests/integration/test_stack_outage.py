"""PostgreSQL is stopped under a running service, and started again."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.process import LabProcess
from config import embedded
from tests.integration.stack import API, ROOT, Stack, environment, eventually

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        os.environ["DATABASE_URL"].startswith("sqlite"),
        reason="SQLite has no server to stop; LATCHKEY_TEST_DATABASE=postgres runs this",
    ),
]


class Postgres:
    """A PostgreSQL of our own that can be stopped and started on the same data."""

    def __init__(self, folder: Path) -> None:
        self.user = embedded.NOBODY if os.geteuid() == 0 else None
        self.programs = embedded._postgres_programs(folder, self.user)
        self.data, self.port = folder / "data", embedded.free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.process = None
        embedded._initialise(self.programs, self.data, self.user)

    def start(self) -> None:
        options = f"-D {self.data} -p {self.port} -k {self.data} -c listen_addresses=127.0.0.1"
        self.process = subprocess.Popen(
            [self.programs / "postgres", *options.split()],
            cwd=self.data,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self.answers)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop as `systemctl stop` does: connections are cut, data are whole."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@contextmanager
def own_postgres():
    with embedded._temporary_folder() as folder:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def outage(tmp_path_factory):
    """The service on a database of its own; yields it with the lab and a key."""
    folder = tmp_path_factory.mktemp("outage")
    with own_postgres() as postgres, LabProcess() as process, LabClient(process.url) as lab:
        lab.put("court_zxfw", gives_refresh=False)  # so that every new token is a login
        stack = Stack(folder, environment(postgres.url, folder))

        def manage(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, ROOT / "manage.py", *arguments],
                env={"PATH": "/usr/bin:/bin", **stack.environment},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            return done.stdout

        manage("migrate", "--verbosity", "0")
        manage("demo", "--lab", process.url)
        issued = manage("issue_key", "robot", "--user", "robot", "--create-user",
                        "--scopes", "tokens:read", "--site", "*")  # fmt: skip
        key = next(word for word in issued.split() if word.startswith("lk_"))
        try:
            stack.start_web()
            stack.start_workers()
            stack.web.wait_until_ready("/livez")
            yield postgres, stack, lab, key
        finally:
            stack.stop()


def timed(stack, key, **body):
    begun = time.monotonic()
    answer = stack.acquire(key=key, site="court_zxfw", **body)
    return answer, time.monotonic() - begun


def test_a_stopped_database_stops_only_what_needs_a_row(outage):
    postgres, stack, lab, key = outage
    first = stack.acquire(key=key, site="court_zxfw")
    assert first.status_code == 200
    assert stack.acquire(key=key, site="court_zxfw").json()["cached"] is True
    # Accepted, and not finished before the database goes.
    lab.patch("court_zxfw", latency_s=1)
    ticket = stack.acquire(key=key, site="court_zxfw", force=True, max_wait_s=0)
    assert ticket.status_code == 202
    eventually(lambda: lab.counts("court_zxfw")["concurrent_now"] == 1)
    postgres.stop()

    _a_cached_token_is_handed_out(stack, key, first.json())
    _what_needs_a_row_is_refused_at_once(stack, key)
    time.sleep(6)  # longer than a token stays unquestioned in a process
    _a_cached_token_is_handed_out(stack, key, first.json())
    assert httpx.get(f"{stack.url}/livez", trust_env=False).status_code == 200

    postgres.start()
    newer = eventually(lambda: _newer(stack, key, first.json()), within_s=60)
    assert newer["fingerprint"] != first.json()["fingerprint"]
    assert lab.counts("court_zxfw")["logins_started"] == 2  # its result was kept in memory
    forced = eventually(lambda: _forced(stack, key, newer), within_s=60)
    assert forced["version"] > newer["version"]
    assert lab.counts("court_zxfw")["concurrent_max"] == 1


def _a_cached_token_is_handed_out(stack, key, known):
    answer, took_s = timed(stack, key)
    assert answer.status_code == 200, answer.text
    assert answer.json()["fingerprint"] == known["fingerprint"]
    assert took_s < 2


def _what_needs_a_row_is_refused_at_once(stack, key):
    for body in ({"force": True}, {"account": "nobody"}, {"min_ttl_s": 86_400}):
        answer, took_s = timed(stack, key, **body)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert took_s < 5
    answer = httpx.get(
        f"{stack.url}{API}/requests", headers={"X-API-Key": key}, timeout=10, trust_env=False
    )
    assert (answer.status_code, "retry-after" in answer.headers) in {(503, True), (403, False)}


def _newer(stack, key, known):
    found = stack.acquire(key=key, site="court_zxfw").json()
    return found if found.get("version", 0) > known["version"] else None


def _forced(stack, key, known):
    answer = stack.acquire(key=key, site="court_zxfw", force=True, known_version=known["version"])
    return answer.json() if answer.status_code == 200 else None
