"""What the users of a load test do, how often, and how long it may take.

Neither Django nor Locust is needed here: the runner, the judge and the users share it.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

API: Final = "/api/v1/automation"


class Kind(StrEnum):
    """Kinds of operations, as the requirement names them."""

    RETRIEVE = "retrieve"
    STORE = "store"
    LIST = "list"
    READ = "read"
    ACQUIRE = "acquire"


# The 95th percentile of each kind, in milliseconds, with 100 operations at a time.
BOUNDS_MS: Final = {
    Kind.RETRIEVE: 50.0,
    Kind.STORE: 100.0,
    Kind.LIST: 200.0,
    Kind.READ: 200.0,
    Kind.ACQUIRE: 60_000.0,
}
WRITES_AT_ONCE: Final = 100
WRITES_BOUND_S: Final = 5.0
# Of a hundred operations. Within a kind every operation is as likely as any other.
WEIGHTS: Final = {
    Kind.RETRIEVE: 50,
    Kind.STORE: 10,
    Kind.LIST: 20,
    Kind.READ: 18,
    Kind.ACQUIRE: 2,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there to be asked for. `keys` are API keys, one a user: write no repr."""

    keys: list[str] = field(repr=False)
    sites: dict[str, list[str]]  # slug → usernames, all with a stored token
    login_sites: dict[str, list[str]]  # slug → usernames, each acquisition a login
    accounts: list[str]
    tokens: list[str]
    requests: list[str]

    def write(self, path: Path) -> None:
        """Write a file that only this user may read: it holds keys."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request to make."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    expected: tuple[int, ...] = (200,)


Maker = Callable[[Facts, random.Random], Call]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a user does; `name` is what the tables call it."""

    kind: Kind
    name: str
    make: Maker = field(repr=False)


def _acquire_named(facts: Facts, dice: random.Random) -> Call:
    site = dice.choice(list(facts.sites))
    return _acquire(site=site, account=dice.choice(facts.sites[site]))


def _acquire_any(facts: Facts, dice: random.Random) -> Call:
    return _acquire(site=dice.choice(list(facts.sites)))


def _log_in(facts: Facts, dice: random.Random) -> Call:
    site = dice.choice(list(facts.login_sites))
    account = dice.choice(facts.login_sites[site])
    return _acquire(site=site, account=account, force=True, max_wait_s=60)


def _acquire(**body: Any) -> Call:
    return Call(method="POST", path=f"{API}/tokens/acquire", body=body | {"purpose": "load"})


def create_account(facts: Facts, dice: random.Random) -> Call:
    """Store a new account with its credentials."""
    body = {
        "site": dice.choice(list(facts.sites)),
        "username": f"new-{uuid4().hex}",
        "secrets": {"password": f"pw-{dice.getrandbits(64):016x}"},
        # Nothing is to log in with it.
        "enabled": False,
    }
    return Call(method="POST", path=f"{API}/accounts", body=body, expected=(201,))


def _change_secrets(facts: Facts, dice: random.Random) -> Call:
    secrets = {"password": f"pw-{dice.getrandbits(64):016x}"}
    path = f"{API}/accounts/{dice.choice(facts.accounts)}"
    return Call(method="PATCH", path=path, body={"secrets": secrets})


def _change_site(facts: Facts, dice: random.Random) -> Call:
    path = f"{API}/sites/{dice.choice(list(facts.sites))}"
    return Call(method="PATCH", path=path, body={"name": f"Site {dice.randrange(1000)}"})


def _issue_key(_facts: Facts, _dice: random.Random) -> Call:
    body = {"name": "reader", "scopes": ["tokens:read"], "grants": [{"site": "*"}]}
    return Call(method="POST", path=f"{API}/keys", body=body, expected=(201,))


def _get(path: str) -> Maker:
    """Return what makes a GET; `{site}`, `{account}` and so on are filled in by chance."""

    def make(facts: Facts, dice: random.Random) -> Call:
        chosen = {
            "site": dice.choice(list(facts.sites)),
            "account": dice.choice(facts.accounts),
            "token": dice.choice(facts.tokens),
            "request": dice.choice(facts.requests),
        }
        root = "" if path.startswith("/") else f"{API}/"
        return Call(method="GET", path=root + path.format(**chosen))

    return make


_LISTS: Final = (
    "accounts", "accounts?site={site}&ordering=-last_success_at", "alerts", "alert-rules", "audit",
    "audit?site={site}", "breaker-transitions", "breakers", "cache/policies", "cache/usage",
    "channels", "history", "history?site={site}&status=failed", "history?page=3", "keys",
    "limit-changes", "logins", "logins?site={site}", "metrics/buckets", "metrics/resets",
    "notices", "repairs", "repairs/suspects", "requests", "requests?site={site}&status=done",
    "samples", "sites", "tokens", "tokens?site={site}", "tuning-bounds", "workers",
)  # fmt: skip
_UNDER_PERFORMANCE: Final = {
    "alerts", "alert-rules", "channels", "limit-changes", "metrics/buckets", "metrics/resets",
    "notices", "samples", "tuning-bounds",
}  # fmt: skip
_READS: Final = (
    "accounts/{account}", "tokens/{token}", "sites/{site}", "sites/{site}/explain",
    "sites/{site}/blacklist", "sites/{site}/statistics", "requests/{request}",
    "requests/{request}/status", "requests/{request}/explain", "limits",
    "history/statistics?site={site}", "performance/metrics", "performance/metrics?site_name={site}",
    "performance/metrics/series?metric=hand_outs", "performance/statistics?days=30",
    "performance/health", "performance/resource-usage", "performance/cache-stats",
    "performance/forecast?site_name={site}", "performance/cache/warm-up?site_name={site}",
    "schema", "/metrics", "/readyz", "/livez",
)  # fmt: skip


def _listing(path: str) -> Operation:
    full = f"performance/{path}" if path in _UNDER_PERFORMANCE else path
    return Operation(Kind.LIST, path, _get(full))


OPERATIONS: Final = (
    Operation(Kind.RETRIEVE, "of an account", _acquire_named),
    Operation(Kind.RETRIEVE, "of any account", _acquire_any),
    Operation(Kind.STORE, "a new account", create_account),
    Operation(Kind.STORE, "an account's secrets", _change_secrets),
    Operation(Kind.STORE, "a site", _change_site),
    Operation(Kind.STORE, "a new key", _issue_key),
    *(_listing(path) for path in _LISTS),
    *(Operation(Kind.READ, path, _get(path)) for path in _READS),
    Operation(Kind.ACQUIRE, "with a login", _log_in),
)
_BY_KIND: Final = {kind: [one for one in OPERATIONS if one.kind is kind] for kind in Kind}


def choose(dice: random.Random) -> Operation:
    """Return an operation, by the weights of the kinds."""
    (kind,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
    return dice.choice(_BY_KIND[kind])
