"""The whole service as processes: web and workers against a database.

For tests there is a fixture of it, see `stack_fixtures.py`.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil
from django.conf import settings
from django.db import connection

from apps.access.contracts import Grant, Scope
from apps.access.services import issue_key
from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import Account, ClusterBeat, LoginAttempt, Site
from apps.tokens.services import accounts, sites
from tests.integration import processes
from tests.integration.processes import ServerProcess

ROOT: Final = Path(__file__).resolve().parents[2]
API: Final = "/api/v1/automation"
READY_LIMIT_S: Final = 40.0
CONNECTORS: Final = (
    "pausing=tests.integration.connectors.Pausing,leaky=tests.integration.connectors.Leaky"
)


@dataclass(slots=True)
class Stack:
    """A running web server and, unless stopped, workers; `folder` holds their logs and data."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=processes.free_port)
    web_processes: int = 1
    web: ServerProcess | None = None
    workers: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_web(self) -> None:
        self.web = self._start(
            "web",
            f"-m uvicorn config.asgi:application --app-dir {ROOT} --port {self.port} "
            f"--timeout-graceful-shutdown 5 --log-level warning --workers {self.web_processes}",
        )

    def start_workers(self) -> None:
        self.workers = self._start("workers", f"{ROOT}/manage.py workers")

    def wait_for_workers(self) -> None:
        """Return when a task has come back through the queue since the workers' start."""
        begun = psutil.Process(self.workers.process.pid).create_time()
        beats = ClusterBeat.objects.exclude(answered_at=None)
        eventually(
            lambda: any(beat.answered_at.timestamp() > begun for beat in beats.all()),
            within_s=READY_LIMIT_S,
        )

    def stop(self) -> None:
        for server in (self.workers, self.web):
            if server is not None:
                server.process.terminate()
        for server in (self.workers, self.web):
            if server is not None:
                server.stop()

    def logs(self) -> str:
        return "".join(log.read_text(errors="replace") for log in self.folder.rglob("server.log"))

    def post(self, path: str, body: Any = None, *, key: str, **options: Any) -> httpx.Response:
        return httpx.post(
            f"{self.url}{API}/{path}",
            json=body,
            headers={"X-API-Key": key},
            timeout=options.pop("timeout", 60),
            trust_env=False,
            **options,
        )

    def acquire(self, *, key: str, **body: Any) -> httpx.Response:
        return self.post("tokens/acquire", {"max_wait_s": 30, **body}, key=key)

    def tree(self) -> list[psutil.Process]:
        """Return the workers' processes: the supervisor first, then what it started."""
        supervisor = psutil.Process(self.workers.process.pid).children()[0]
        return [supervisor, *supervisor.children(recursive=True)]

    def _start(self, name: str, arguments: str) -> ServerProcess:
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        command = [sys.executable, *arguments.split()]
        return processes.start(command, port=self.port, folder=folder, environment=self.environment)


def environment(database_url: str, folder: Path, **more: str) -> dict[str, str]:
    """Return what the processes of a stack are told: this database, and short times."""
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url,
        "REDIS_URL": os.environ["REDIS_URL"],
        "LATCHKEY_DATA_DIR": str(folder),
        "LATCHKEY_POLL_S": "0.05",
        "LATCHKEY_CONNECTORS": CONNECTORS,
        "LATCHKEY_TEST_CACHE_BACKGROUND": "1",
        **more,
    }


@contextmanager
def running_stack(database_url: str, folder: Path, **more: str) -> Iterator[Stack]:
    """Start web and workers together, wait until both answer, and stop them."""
    stack = Stack(folder, environment(database_url, folder, **more))
    try:
        stack.start_web()
        stack.start_workers()
        stack.web.wait_until_ready("/livez")
        stack.wait_for_workers()
        yield stack
    finally:
        stack.stop()


def url_of_the_test_database() -> str:
    """Return the test database as other processes reach it."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()


def eventually(check: Callable[[], Any], *, within_s: float = 60) -> Any:
    """Wait until another process has done something; return the first true value."""
    end = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def lab_site(
    lab: LabClient,
    slug: str,
    *,
    connector: str = "http_recipe",
    variables: Mapping[str, str] | None = None,
    password: str = "correct-horse",
    **behaviour: Any,
) -> Account:
    """Register a site of the lab with the account `alice`; its recipe has no refresh tokens."""
    lab.put(slug, **behaviour)
    recipe = json_recipe(lab.url, slug, refresh=False)
    recipe["variables"] |= variables or {}
    site = Site(slug=slug, connector=connector, recipe=recipe)
    site.allowed_hosts = list(allowed_hosts(lab.url))
    sites.save(site)
    account = Account(site=site, username="alice")
    accounts.create(account, {"password": password})
    return account


def new_key(*grants: Grant, scopes: Any = (Scope.TOKENS_READ,), **more: Any) -> str:
    """Issue a key, for every site unless told otherwise, and return its text."""
    from django.contrib.auth import get_user_model

    user, _ = get_user_model().objects.get_or_create(username="robot")
    _row, text = issue_key(
        user_id=user.pk,
        name="robot",
        scopes=scopes,
        grants=grants or (Grant(site="*"),),
        issuer=None,
        **more,
    )
    return text


def open_attempt(slug: str) -> LoginAttempt:
    """Wait for the login that is being made at a site."""
    rows = LoginAttempt.objects.filter(site__slug=slug, outcome="").select_related("owner")
    found: LoginAttempt = eventually(rows.first)
    return found
