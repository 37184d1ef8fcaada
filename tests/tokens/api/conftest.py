"""Both faces of the API in this process, inside the test's transaction."""

import asyncio
import json

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from apps.access.contracts import ANY_SITE, Grant, Scope
from apps.access.journal import JOURNAL
from apps.access.services import issue_key
from apps.caching import services as cache
from apps.tokens.services import threads
from tests.tokens.work import BackToTheTest

API = "/api/v1/automation/"


class Answer:
    """What a face answered: status, headers with lower-case names, JSON content."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.raw = body
        self.json = json.loads(body) if "json" in self.headers.get("content-type", "") else None


def over_django(method, path, *, headers, body=b""):
    """Call the WSGI part: Django and DRF."""
    meta = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    kind = meta.pop("HTTP_CONTENT_TYPE", "")
    found = Client().generic(method, path, body, content_type=kind, **meta)
    return Answer(found.status_code, found.headers.items(), found.getvalue())


def over_the_edge(method, path, *, headers, body=b""):
    """Call the ASGI application; only paths of the edge can be called like this."""
    from config.asgi import application

    sent, parts = [], [{"type": "http.request", "body": body, "more_body": False}]
    raw = {**headers, "content-length": str(len(body))}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in raw.items()],
        "client": ("127.0.0.1", 1),
    }

    async def receive():
        return parts.pop(0) if parts else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    threads.shared().drive(application(scope, receive, send))
    names = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return Answer(sent[0]["status"], names, b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture(autouse=True)
def service(settings, monkeypatch, db, tmp_path):
    """A process that has just begun: no cached key or token, no task queue, its own journal."""
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, **_: call())
    one = BackToTheTest()
    monkeypatch.setattr(threads, "shared", lambda: one)
    cache.clear_all()
    yield
    JOURNAL.close()
    cache.clear_all()


@pytest.fixture
def robot():
    return get_user_model().objects.create_user("robot")


@pytest.fixture
def key(robot):
    """Issue a key and return its text; all scopes and sites unless told."""

    def make(*grants, scopes=tuple(Scope), **more):
        grants = grants or (Grant(site=ANY_SITE),)
        fields = {"user_id": robot.pk, "name": "robot", "scopes": scopes, "grants": grants}
        return issue_key(**fields, issuer=None, **more)[1]

    return make


class Api:
    """The REST face with one key."""

    def __init__(self, key):
        self.key = key

    def __call__(self, method, path, body=None, **headers):
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {"x-api-key": self.key, "content-type": "application/json", **headers}
        return over_django(method, API + path, headers=headers, body=raw)

    def get(self, path):
        return self("GET", path)

    def post(self, path, body=None):
        return self("POST", path, body or {})

    def patch(self, path, body):
        return self("PATCH", path, body)

    def delete(self, path):
        return self("DELETE", path)


@pytest.fixture
def api(key):
    """Make a client: of a key with these grants and scopes, or with all of them."""
    return lambda *grants, **more: Api(key(*grants, **more))
