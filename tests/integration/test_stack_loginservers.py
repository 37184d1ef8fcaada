"""Real login servers through the whole of the product: import, request, login, storage, refresh."""

from io import StringIO

import httpx
import pytest
from ruamel.yaml import YAML

from apps.tokens.errors import NoAccountAvailable
from apps.tokens.models import RefreshToken, StoredToken, TokenRequest
from apps.tokens.services import acquisition, site_files, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut
from tests.tokens.factories import caller
from tests.tokens.work import work

pytestmark = [pytest.mark.loginservers, pytest.mark.django_db]

SERVERS = ["jupyter", "dot-people", "dot-service", "flask-appbuilder", "devpi"]


@pytest.fixture(autouse=True)
def nobody_else_works(monkeypatch):
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)


def register(server, **secrets):
    entry = dict(server.entry)
    entry["accounts"] = [{"username": server.username, "secrets": {**server.secrets, **secrets}}]
    text = StringIO()
    YAML(typ="safe").dump({"sites": [entry]}, text)
    site_files.apply(text.getvalue())


def acquire(server, **spec):
    wanted = AcquireSpec(site=str(server.entry["slug"]), **spec)
    found = acquisition.obtain(wanted, principal=caller())
    if isinstance(found, HandOut):
        return found.token
    work()
    return waiting.look([found])[found.request_id]


@pytest.mark.parametrize("name", SERVERS)
def test_a_token_is_acquired_once_and_then_comes_from_storage(login_servers, name):
    server = login_servers[name]
    register(server)
    first = acquire(server)
    assert acquire(server).fingerprint == first.fingerprint
    assert StoredToken.objects.get().version == 1


@pytest.mark.parametrize("name", ["jupyter", "dot-people", "flask-appbuilder", "devpi"])
def test_a_wrong_password_is_refused_by_the_server_once_and_never_sent_again(login_servers, name):
    server = login_servers[name]
    register(server, password="not-the-password")
    acquire(server, account=server.username)
    assert TokenRequest.objects.get().error_code == "invalid_credentials"
    with pytest.raises(NoAccountAvailable):
        acquire(server)


@pytest.mark.parametrize("name", ["dot-people", "flask-appbuilder"])
def test_a_newer_token_comes_by_the_refresh_token(login_servers, name):
    server = login_servers[name]
    register(server)
    first = acquire(server)
    before = RefreshToken.objects.get()
    second = acquire(server, force=True)
    after = RefreshToken.objects.get()
    assert second.version == first.version + 1
    assert StoredToken.objects.get().account.logins.filter(used_refresh_token=True).count() == 1
    rotated = after.parent_fingerprint == before.fingerprint
    assert rotated or after.fingerprint == before.fingerprint


def test_the_acquired_cookie_opens_what_jupyter_protects(login_servers):
    server = login_servers["jupyter"]
    register(server)
    token = acquire(server)
    cookies = {cookie.name: cookie.value for cookie in token.material.cookies}
    assert httpx.get(f"{server.url}/api/contents", trust_env=False).status_code == 403
    with httpx.Client(base_url=server.url, cookies=cookies, trust_env=False) as client:
        assert client.get("/api/contents").status_code == 200
