"""The rows a load test works on: sites, accounts with tokens, keys, and a past."""

import random
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model

from apps.access.contracts import AuditKind, Grant, Scope
from apps.access.models import AuditEntry
from apps.access.services import issue_key
from apps.common.clock import now
from apps.tokens.contracts import TokenMaterial
from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import (
    Account,
    LoginAttempt,
    RecoveryAction,
    Site,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.services import accounts, sites
from apps.tokens.services.lookup import material_to_plain
from tests.history import year
from tests.load.operations import Facts

PASSWORD: Final = "correct-horse"
SITES: Final = 10
LOGIN_SITES, LOGIN_ACCOUNTS = 5, 20
LOGIN_S: Final = 1.0
CHUNK: Final = 2_000


def build(lab: LabClient, *, users: int, rows: int, accounts: int = 50) -> Facts:
    """Make everything; `rows` of history and of the audit, a tenth of that of requests.

    `accounts` have a token at each of ten sites; at five more every acquisition is a login.
    """
    held = {f"load-{n:02}": [f"user-{n:02}-{m:02}" for m in range(accounts)] for n in range(SITES)}
    login = {
        f"login-{n:02}": [f"user-{m:02}" for m in range(LOGIN_ACCOUNTS)] for n in range(LOGIN_SITES)
    }
    made = [account for slug, names in held.items() for account in _site(lab, slug, names)]
    for slug, names in login.items():
        _site(lab, slug, names)
    tokens = _store_tokens(made)
    requests = _past(made, rows // 10)
    _write_audit(made, rows)
    year.fill(rows, end=now())
    return Facts(
        keys=_keys(users),
        sites=held,
        login_sites=login,
        accounts=[str(account.pk) for account in made],
        tokens=tokens,
        requests=requests,
    )


def _site(lab: LabClient, slug: str, names: list[str]) -> list[Account]:
    """Make a site on both sides, with its accounts."""
    lab.put(slug, accounts=dict.fromkeys(names, PASSWORD), latency_s=LOGIN_S)
    site = Site(
        slug=slug,
        recipe=json_recipe(lab.url, slug, refresh=False),
        allowed_hosts=list(allowed_hosts(lab.url)),
        # A load test logs in more often than anybody should.
        budget_per_account=100_000,
        budget_per_site=1_000_000,
    )
    sites.save(site)
    rows = [Account(site=site, username=name, secrets={"password": PASSWORD}) for name in names]
    for row in rows:
        row.secret_fingerprint = accounts.secret_fingerprint(row, row.secrets)
    return Account.objects.bulk_create(rows)


def _store_tokens(held: list[Account]) -> list[str]:
    """Give every account a token that outlives the test."""
    at, end = now(), now() + timedelta(days=2)
    rows = [
        StoredToken(
            account=account,
            version=version,
            fingerprint=f"{version:032x}",
            material=material_to_plain(TokenMaterial(bearer=uuid.uuid4().hex)),
            issued_at=at,
            expires_at=end,
            usable_until=end,
            refresh_after=end,
        )
        for version, account in enumerate(held, start=1)
    ]
    StoredToken.objects.bulk_create(rows)
    Site.objects.filter(pk__in={account.site_id for account in held}).update(token_serial=len(held))
    return [str(row.pk) for row in rows]


def _past(held: list[Account], count: int) -> list[str]:
    """Write requests that ended, each with its login, and some repairs; return the requests."""
    end = now()
    worker = WorkerProcess.objects.create(
        host="before", pid=1, process_started_at=1.0, cluster="default", slots=10,
        started_at=end, lease_until=end, ended_at=end, ended_how="drained",
    )  # fmt: skip
    moments = [end - timedelta(seconds=30 * n) for n in range(count)]
    asked = [
        TokenRequest(
            site=account.site, account=account, requested_key=str(account.pk), status="done",
            stage="done", reason="no_token", order_at=at, not_before=at, expires_at=at,
            attempts=1, created_at=at, started_at=at, finished_at=at, served_by=account.username,
            token_fingerprint="0" * 32, login_s=1.0,
        )
        for account, at in zip(_again(held), moments, strict=False)
    ]  # fmt: skip
    TokenRequest.objects.bulk_create(asked, batch_size=CHUNK)
    LoginAttempt.objects.bulk_create(
        (
            LoginAttempt(
                request=row, site=row.site, account=row.account, owner=worker, fence=1,
                credential_version=1, concurrency_at_start=1, started_at=row.created_at,
                deadline=row.created_at, finished_at=row.created_at, outcome="succeeded",
            )
            for row in asked
        ),
        batch_size=CHUNK,
    )  # fmt: skip
    RecoveryAction.objects.bulk_create(
        RecoveryAction(at=at, kind="permit_returned", subject="somebody") for at in moments[:200]
    )
    return [str(row.pk) for row in asked]


def _write_audit(held: list[Account], count: int) -> None:
    end = now()
    AuditEntry.objects.bulk_create(
        (
            AuditEntry(
                uuid=uuid.uuid4(), kind=AuditKind.HAND_OUT, at=end - timedelta(seconds=n),
                principal_kind="key", principal_id="past", principal_name="past",
                site=account.site.slug, account=account.username, cached=True, purpose="load",
            )
            for n, account in zip(range(count), _again(held), strict=False)
        ),
        batch_size=CHUNK,
    )  # fmt: skip


def _keys(users: int) -> list[str]:
    """Issue a key a user, each with a user behind it and every scope."""
    people = get_user_model().objects
    return [
        issue_key(
            user_id=people.create(username=f"program-{n:03}").pk,
            name=f"program-{n:03}",
            scopes=list(Scope),
            grants=[Grant(site="*")],
            issuer=None,
        )[1]
        for n in range(users)
    ]


def _again(held: list[Account]) -> Iterable[Account]:
    """Yield accounts for ever, at random."""
    dice: Any = random.Random(1)
    while True:
        yield dice.choice(held)
