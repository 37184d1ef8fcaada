"""Login servers nobody here wrote, each with the recipe that ships for it.

`start_all` starts them side by side and is used once per test session; the fixtures in
`conftest.py` hand out one `LoginServer` each.
"""

import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from apps.tokens.contracts import Credentials, SiteConfig
from tests.integration import environment
from tests.integration.processes import ServerProcess, free_port, start

EXAMPLES: Final = environment.ROOT / "docs" / "connectors" / "examples"
PROGRAMS: Final = Path(__file__).parent / "programs"
USERNAME: Final = "ada"


@dataclass(frozen=True, slots=True)
class LoginServer:
    """One running server as a site: where it is, who may log in, and the recipe that does it.

    `entry` is the whole site entry of the example file, with the base URL of this server.
    `keys` are the server's own secrets, for tests that make tokens it must judge.
    """

    name: str
    url: str
    username: str
    entry: Mapping[str, Any] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    folder: Path
    keys: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def password(self) -> str:
        """The account's password; empty where it logs in with another secret."""
        return self.secrets.get("password", "")

    @property
    def connector(self) -> str:
        """The connector's name, as a site has it."""
        return str(self.entry["connector"])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe, pointing to this server."""
        return dict(self.entry["recipe"])

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """`host:port` of this server and nothing else."""
        return tuple(self.entry["allowed_hosts"])

    def site(self, **changes: Any) -> SiteConfig:
        """Return the site as a connector sees it."""
        values: dict[str, Any] = {
            "slug": self.name,
            "connector": self.connector,
            "recipe": self.recipe,
            "allowed_hosts": self.allowed_hosts,
            "request_timeout_s": 20.0,
        }
        return SiteConfig(**(values | changes))

    def credentials(self, username: str = "", **changed: str) -> Credentials:
        """Return the account that may log in, with some of its secrets replaced."""
        return Credentials(username=username or self.username, secrets={**self.secrets, **changed})


def example(file: str, slug: str, url: str = "") -> dict[str, Any]:
    """Return one site entry of `docs/connectors/examples`, pointed to `url` if one is given."""
    data = YAML(typ="safe").load((EXAMPLES / f"{file}.yaml").read_text(encoding="utf-8"))
    (entry,) = (site for site in data["sites"] if site["slug"] == slug)
    if url:
        entry["recipe"]["variables"]["base"] = url
        entry["allowed_hosts"] = [url.removeprefix("http://")]
    return dict(entry)


@contextmanager
def start_all(folder: Path) -> Iterator[dict[str, LoginServer]]:
    """Start every server at the same time; yield them by name; stop them all."""
    python = environment.python()
    starters = (_jupyter, _django_oauth, _flask_appbuilder, _devpi)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=len(starters)))
        started = [pool.submit(starter, python, folder, stack) for starter in starters]
        # Every start is waited for, so that nothing is left running behind an error.
        errors = [error for job in started if (error := job.exception())]
        if errors:
            raise errors[0]
        yield {server.name: server for job in started for server in job.result()}


def _jupyter(python: Path, parent: Path, stack: ExitStack) -> list[LoginServer]:
    folder, port, password = _folder(parent, "jupyter"), free_port(), _secret()
    cookie_secret = _secret()
    salt = secrets.token_hex(6)
    hashed = f"sha256:{salt}:{hashlib.sha256((password + salt).encode()).hexdigest()}"
    (folder / "notebooks").mkdir()
    settings = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.terminals_enabled": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": str(folder / "notebooks"),
        "ServerApp.cookie_secret": cookie_secret.encode(),
        "IdentityProvider.token": "",
        "PasswordIdentityProvider.hashed_password": hashed,
    }
    config = folder / "config.py"
    config.write_text("".join(f"c.{name} = {value!r}\n" for name, value in settings.items()))
    variables = {
        f"JUPYTER_{name}_DIR": str(_folder(folder, name.lower()))
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    command: list[str | Path] = [environment.program("jupyter-server"), f"--config={config}"]
    process = _serve(stack, command, port, folder, "/login", variables)
    return [
        LoginServer(
            name="jupyter",
            url=process.url,
            username=USERNAME,
            secrets={"password": password},
            entry=example("jupyter", "jupyter", process.url),
            folder=folder,
            keys={"cookie_secret": cookie_secret},
        )
    ]


def _django_oauth(python: Path, parent: Path, stack: ExitStack) -> list[LoginServer]:
    folder, port = _folder(parent, "django_oauth"), free_port()
    people = {"password": _secret(), "client_id": "portal", "client_secret": _secret()}
    service = {"client_secret": _secret()}
    spec = {
        "users": [{"username": USERNAME, "password": people["password"]}],
        "clients": [
            {
                "client_id": people["client_id"],
                "client_secret": people["client_secret"],
                "grant": "password",
            },
            {
                "client_id": "reports",
                "client_secret": service["client_secret"],
                "grant": "client-credentials",
            },
        ],
    }
    process = _serve(
        stack,
        [python, PROGRAMS / "django_oauth.py", folder, str(port)],
        port,
        folder,
        "/up",
        {"LOGIN_SERVER": json.dumps(spec)},
    )
    accounts = {"dot-people": (USERNAME, people), "dot-service": ("reports", service)}
    return [
        LoginServer(
            name=slug,
            url=process.url,
            username=username,
            secrets=given,
            entry=example("django_oauth_toolkit", slug, process.url),
            folder=folder,
        )
        for slug, (username, given) in accounts.items()
    ]


def _flask_appbuilder(python: Path, parent: Path, stack: ExitStack) -> list[LoginServer]:
    folder, port, password = _folder(parent, "flask_appbuilder"), free_port(), _secret()
    jwt_secret = _secret()
    spec = {"jwt_secret": jwt_secret, "users": [{"username": USERNAME, "password": password}]}
    process = _serve(
        stack,
        [python, PROGRAMS / "flask_appbuilder_app.py", folder, str(port)],
        port,
        folder,
        "/api/v1/menu/",
        {"LOGIN_SERVER": json.dumps(spec)},
    )
    return [
        LoginServer(
            name="flask-appbuilder",
            url=process.url,
            username=USERNAME,
            secrets={"password": password},
            entry=example("flask_appbuilder", "flask-appbuilder", process.url),
            folder=folder,
            keys={"jwt_secret": jwt_secret},
        )
    ]


def _devpi(python: Path, parent: Path, stack: ExitStack) -> list[LoginServer]:
    folder, port, password = _folder(parent, "devpi"), free_port(), _secret()
    state = folder / "state"
    subprocess.run(
        [
            environment.program("devpi-init"),
            f"--serverdir={state}",
            f"--root-passwd={password}",
            "--no-root-pypi",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    command: list[str | Path] = [
        environment.program("devpi-server"),
        f"--serverdir={state}",
        "--host=127.0.0.1",
        f"--port={port}",
        "--offline-mode",
        "--restrict-modify=root",  # so that making an index needs a token
        # Deriving the key that signs tokens takes 8 s of two cores and 512 MB by default.
        "--argon2-memory-cost=1024",
        "--argon2-time-cost=1",
        "--argon2-parallelism=1",
    ]
    process = _serve(stack, command, port, folder, "/+api")
    return [
        LoginServer(
            name="devpi",
            url=process.url,
            username="root",
            secrets={"password": password},
            entry=example("devpi", "devpi", process.url),
            folder=folder,
        )
    ]


def _serve(
    stack: ExitStack,
    command: Sequence[str | Path],
    port: int,
    folder: Path,
    ready_path: str,
    variables: Mapping[str, str] | None = None,
) -> ServerProcess:
    process = start(command, port=port, folder=folder, environment=variables)
    stack.callback(process.stop)
    process.wait_until_ready(ready_path)
    return process


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _secret() -> str:
    return secrets.token_urlsafe(24)
