"""One fixture per login server; all of them are started together, once per session."""

from collections.abc import Iterator

import pytest

from tests.integration.loginservers import LoginServer, start_all


@pytest.fixture(scope="session")
def login_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LoginServer]]:
    """All servers by name; takes some seconds, the first time a test of a session asks."""
    with start_all(tmp_path_factory.mktemp("loginservers")) as servers:
        yield servers


@pytest.fixture(scope="session")
def jupyter(login_servers: dict[str, LoginServer]) -> LoginServer:
    """Jupyter Server: a form with `_xsrf` and a password; a cookie comes back."""
    return login_servers["jupyter"]


@pytest.fixture(scope="session")
def dot_people(login_servers: dict[str, LoginServer]) -> LoginServer:
    """django-oauth-toolkit, password grant with rotating refresh tokens."""
    return login_servers["dot-people"]


@pytest.fixture(scope="session")
def dot_service(login_servers: dict[str, LoginServer]) -> LoginServer:
    """django-oauth-toolkit, client credentials."""
    return login_servers["dot-service"]


@pytest.fixture(scope="session")
def flask_appbuilder(login_servers: dict[str, LoginServer]) -> LoginServer:
    """Flask-AppBuilder: JSON login, access and refresh token as JWTs."""
    return login_servers["flask-appbuilder"]


@pytest.fixture(scope="session")
def devpi(login_servers: dict[str, LoginServer]) -> LoginServer:
    """devpi-server: JSON login, a token with seconds to live, sent as basic authentication."""
    return login_servers["devpi"]
