"""Secrets with names of their own go through everything, and are found nowhere they must not be."""

import base64
import json
import subprocess
import sys
from urllib.parse import quote

import httpx
import pytest
import redis
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import reverse

from apps.access.audit import import_journals
from apps.access.contracts import Scope
from apps.access.models import AuditEntry
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.faultlab.recipes import json_recipe, totp_recipe
from apps.tokens.models import LoginAttempt, RefreshToken, StoredToken
from apps.tokens.services import accounts
from tests.integration.stack import API, ROOT, eventually, lab_site, new_key

pytest_plugins = ["tests.lab", "tests.integration.stack_fixtures", "tests.otlp"]
pytestmark = pytest.mark.processes

SEED = "CANARYSEEDCANARYSEEDCANARYSEED23"
PASSWORD = "canary/päss word+71"
WRONG = "canary-wrong-word-72"
PEOPLE = {"alice": {"password": PASSWORD, "totp_secret": SEED}}
EXCHANGE = 3  # the kind of span that is a request to a site


@pytest.fixture(scope="module")
def stack_variables(collector_of_the_module):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_of_the_module.url}


class Caller:
    """Calls the API with a key of its own, and keeps all that was answered but tokens asked for."""

    def __init__(self, url):
        self._url = url
        self.key = new_key(scopes=tuple(Scope))
        self.seen = []

    def call(self, method, path, body=None):
        answer = httpx.request(
            method,
            f"{self._url}{API}/{path}",
            json=body,
            headers={"X-API-Key": self.key},
            timeout=60,
            trust_env=False,
        )
        self.seen.append((path, answer.text + str(answer.headers)))
        return answer

    def acquire(self, site, **more):
        answer = self.call("POST", "tokens/acquire", {"site": site, "max_wait_s": 20, **more})
        if answer.status_code == 200:
            self.seen.pop()  # the one answer that is meant to hold a token
        return answer


@pytest.fixture(scope="module")
def traces(stack, lab_of_the_session):
    """Run a whole flow with failures; return the secrets and all that was answered."""
    caller = Caller(stack.url)
    account = log_in(lab_of_the_session, caller)
    fail_to_log_in(lab_of_the_session, caller)
    check_sites(lab_of_the_session, caller, stack.environment)
    read_and_write(account, caller)
    secrets = all_secrets(account, caller.key)
    caller.acquire("good")  # so that it lies in every cache
    return secrets, caller.seen, redis_content()


def log_in(lab, caller):
    """Log in with every kind of secret; return the account."""
    good = lab_site(lab, "good", accounts=PEOPLE, totp_required=True, session_ttl_s=600)
    good.site.recipe = totp_recipe(lab.url, "good")
    good.site.save()
    accounts.set_secrets(good, {"password": PASSWORD, "totp_secret": SEED})
    assert caller.acquire("good").status_code == 200  # the call whose trace is looked at below
    assert caller.acquire("good").json()["cached"] is True
    return good


def fail_to_log_in(lab, caller):
    """Fail by a wrong password, by a connector that says too much, and by a token not taken."""
    lab_site(lab, "wrong", accounts=PEOPLE, password=WRONG)
    assert caller.acquire("wrong").status_code == 502
    assert caller.acquire("wrong").status_code == 409
    lab_site(lab, "leaky", connector="leaky", accounts=PEOPLE, password=PASSWORD)
    assert caller.acquire("leaky", max_wait_s=0).status_code == 202
    eventually(LoginAttempt.objects.filter(site__slug="leaky", error_code="worker_failed").exists)
    unverified = lab_site(lab, "unverified", accounts=PEOPLE, password=PASSWORD)
    recipe = json_recipe(lab.url, "unverified", refresh=False)
    recipe["verify"]["headers"] = {"Authorization": "Bearer ${token.bearer}x"}
    unverified.site.recipe = recipe
    unverified.site.save()
    caller.acquire("unverified", max_wait_s=0)
    eventually(LoginAttempt.objects.filter(site__slug="unverified").exclude(outcome="").exists)


def check_sites(lab, caller, environment):
    """Let operators look for what is wrong with a site that works and with two that do not."""
    checked = lab_site(lab, "checked", accounts=PEOPLE, password=PASSWORD)
    assert checked.secrets["password"] == PASSWORD
    for site in ("checked", "leaky", "wrong"):
        told = subprocess.run(
            [sys.executable, ROOT / "manage.py", "check_site", site],
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            check=False,
            timeout=60,
        )
        caller.seen.append((f"check_site {site}", (told.stdout + told.stderr).decode()))
        assert b"check" in told.stdout or b"recipe" in told.stdout


def read_and_write(account, caller):
    """Read every list, and write what is refused because of a secret in the wrong place."""
    for path in ("sites", "accounts", "tokens", "requests", "logins", "workers", "repairs"):
        assert caller.call("GET", path).status_code == 200
    bodies = (
        {"site": "good", "username": "carol", "secrets": {"password": 5}},
        {"site": "nowhere", "username": "x", "secrets": {"p": PASSWORD}},
    )
    for body in bodies:
        caller.call("POST", "accounts", body)
    caller.call("PATCH", f"accounts/{account.pk}", {"secret": PASSWORD})


def all_secrets(account, key):
    """Return every secret there is by now, by a name that may be shown."""
    refresh = RefreshToken.objects.get(account=account)
    secrets = {
        "password": PASSWORD,
        "wrong password": WRONG,
        "seed": SEED,
        "key": key,
        "refresh token": refresh.secret["token"],
        "refresh token, its random part": refresh.secret["token"][2:],
    }
    for token in StoredToken.objects.all():
        secrets[f"token of {token.account.site.slug}"] = token.material["bearer"]
    assert len(secrets) == 8
    return secrets


def forms(secret):
    """Return how a secret may be written down."""
    raw = secret.encode()
    return {
        raw,
        quote(secret).encode(),
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        base64.b64encode(raw).rstrip(b"="),
        base64.urlsafe_b64encode(raw).rstrip(b"="),
        raw.hex().encode(),
        repr(secret)[1:-1].encode(),
    }


def assert_absent(secrets, place, content):
    found = [name for name, secret in secrets.items() if any(f in content for f in forms(secret))]
    assert not found, f"{found} in {place}"


def database_content():
    """Return all that the database holds, as it is stored."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(connection.settings_dict["NAME"], "rb") as file:
            return file.read()
    content = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            with cursor.copy(f'COPY (SELECT * FROM "{table}") TO STDOUT') as rows:
                content += [bytes(row) for row in rows]
    return b"".join(content)


def redis_content():
    """Return every key with its value; what is no text as Redis dumps it."""
    if not settings.REDIS_URL:
        return {}
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        return {
            key: client.get(key) if client.type(key) == b"string" else client.dump(key)
            for key in client.keys("*")
        }


def test_the_search_finds_what_is_there(traces):
    """The searches below would be worth nothing if they looked into an empty place."""
    assert b"one_time_code" in database_content() or b"worker_failed" in database_content()
    with pytest.raises(AssertionError):
        assert_absent(traces[0], "a text", f"x{quote(PASSWORD)}y".encode())


def test_no_answer_holds_a_secret(traces):
    secrets, seen, _ = traces
    for place, text in seen:
        assert_absent(secrets, place, text.encode())


def test_no_row_holds_a_secret(traces, stack, settings):
    settings.LATCHKEY_AUDIT_DIR = stack.folder / "audit"
    import_journals()  # the workers may have been before us
    eventually(lambda: AuditEntry.objects.filter(site="good", kind="hand_out").count() == 3)
    assert TokenAcquisitionHistory.objects.filter(site="wrong").exists()
    assert_absent(traces[0], "the database", database_content())


def test_no_log_or_file_holds_a_secret(traces, stack):
    assert "login_crashed" in stack.logs()
    files = [path for path in stack.folder.rglob("*") if path.is_file()]
    assert len(files) >= 2
    for path in files:
        assert_absent(traces[0], path, path.read_bytes())


def test_redis_holds_no_secret(traces):
    secrets, _, content = traces
    if not settings.REDIS_URL:
        pytest.skip("runs without Redis")
    assert any(b"tokens" in name for name in content)
    for name, value in content.items():
        assert_absent(secrets, name, name + value)
        assert b"alice" not in name


def test_a_login_is_one_trace_from_the_call_through_a_fork_to_the_hand_out(
    traces, stack, collector_of_the_module
):
    found = trace_of("good", collector_of_the_module)
    web = found["POST /api/v1/automation/tokens/acquire"]
    below = {
        name: next((one.name for one in found.values() if one.id == span.parent), None)
        for name, span in found.items()
    }
    worker = {"queue", "admission", "login", "completion", *(n for n in found if "step" in n)}

    assert below == {
        web.name: None,
        "obtain": web.name,
        "ask": "obtain",
        "queue": "ask",
        "admission": "ask",
        "login": "ask",
        "step login": "login",
        "step verify": "login",
        "completion": "login",
        "wait": web.name,
        "hand_out": web.name,
    }
    # The clusters fork: who logged in has the process id of a row, and is not the web server.
    pids = {span.resource["process.pid"] for name, span in found.items() if name in worker}
    assert pids == {LoginAttempt.objects.get(site__slug="good").owner.pid}
    assert web.resource["process.pid"] not in pids
    assert (
        found["login"].attributes["latchkey.request"] == found["ask"].attributes["latchkey.request"]
    )
    assert not any(span.failed for span in found.values())
    lines = [line for line in stack.logs().splitlines() if web.trace in line]
    assert any("login_succeeded" in line for line in lines)


def trace_of(site, collector):
    """Wait for the whole trace of a site's first login; return its spans by name."""
    asked = collector.until(
        lambda: next(
            (
                span
                for span in collector.spans()
                if span.name == "ask" and span.attributes["latchkey.site"] == site
            ),
            None,
        )
    )

    def whole():
        spans = {span.name: span for span in collector.spans() if span.trace == asked.trace}
        return spans if {"hand_out", "login", asked.name} <= spans.keys() else None

    return {name: span for name, span in collector.until(whole).items() if span.kind != EXCHANGE}


def test_no_span_holds_a_secret_a_name_or_a_path(traces, collector_of_the_module):
    collector = collector_of_the_module
    collector.until(lambda: any(span.failed for span in collector.spans()), "a failure")
    exchanges = [span for span in collector.spans() if span.kind == EXCHANGE]
    assert {span.name for span in exchanges} == {"GET 127.0.0.1", "POST 127.0.0.1"}
    for body in collector.bodies:
        assert_absent(traces[0], "a span", body)
        for name in (b"alice", b"robot", b"carol", b"/good", b"/wrong", b"lk_"):
            assert name not in body


def test_no_admin_page_holds_a_secret(traces):
    people = get_user_model().objects
    person = people.filter(username="boss").first() or people.create_superuser("boss")
    client = Client()
    client.force_login(person)
    for page in (reverse("admin:index"), reverse("dashboard")):
        assert_absent(traces[0], page, client.get(page).content)
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        rows = {reverse(f"{name}_change", args=[row.pk]): row for row in model.objects.all()[:5]}
        for page in (reverse(f"{name}_changelist"), *rows):
            answer = client.get(page)
            gone = page in rows and not model.objects.filter(pk=rows[page].pk).exists()
            assert answer.status_code == 200 or gone, page  # the queue's rows come and go
            assert_absent(traces[0], page, answer.content)
