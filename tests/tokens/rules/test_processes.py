"""What holds between processes: one probe, limits, and results against edits."""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection

from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, SiteBreaker, StoredToken
from apps.tokens.services import accounts, completion
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import ago, ask, ask_batch, claim, grant, send, state

ROOT = Path(__file__).parents[3]
PROCESSES = 3

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def claimers(django_db_setup):
    """Processes that claim when told to; started once for all tests here."""
    environment = os.environ | {"DATABASE_URL": _database_url(), "REDIS_URL": ""}
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.tokens.rules.claimer"],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(PROCESSES)
        ]
        for child in children:
            stack.callback(child.stdin.close)
            assert _said(child) == "ready"
        yield children


@pytest.fixture
def claim_at_once(claimers):
    """Let all processes claim at the same moment; return who was admitted, by name."""

    def run():
        for word in ("owner", None):
            for child in claimers:
                child.stdin.write("go\n")
                child.stdin.flush()
            answers = [_said(child) for child in claimers]
            assert word is None or answers == [word] * PROCESSES
        return sorted(name for name in answers if name != "nothing")

    return run


def _database_url():
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()


def _said(child):
    """Return the next line that is not a log's."""
    for line in child.stdout:
        if " " not in line.strip():
            return line.strip()
    raise AssertionError("The process has ended.")


def test_of_claims_at_once_one_probes_a_broken_site(claim_at_once):
    site = make_site(max_concurrent=50)
    SiteBreaker.objects.create(
        site=site, state="open", open_until=ago(seconds=1), healthy_at=ago(seconds=1)
    )
    for n in range(PROCESSES):
        ask_batch(make_account(site, f"u{n}"), queue="interactive")
    assert claim_at_once() == ["u0"]
    assert (state(site), LoginAttempt.objects.count()) == ("half_open", 1)


def test_claims_at_once_stay_within_the_limit_of_a_site(claim_at_once):
    site = make_site(max_concurrent=2)
    AdmissionLimits.objects.create(pk=1, max_concurrent=50)
    for n in range(PROCESSES):
        ask_batch(make_account(site, f"u{n}"), queue="interactive")
    assert claim_at_once() == ["u0", "u1"]


def test_an_edited_secret_waits_for_a_result_that_is_being_written(monkeypatch):
    """Otherwise the result would be compared with the old world and written into the new one."""
    account = make_account(make_site())
    ask(account="alice")
    claimed = claim()
    send(claimed)
    store, order = completion._store_token, []

    def edit():
        try:
            accounts.set_secrets(Account.objects.get(pk=account.pk), {"password": "new"})
            order.append("edited")
        finally:
            connection.close()

    editor = threading.Thread(target=edit)

    def store_slowly(*args, **kwargs):
        editor.start()
        editor.join(timeout=0.7)
        order.append("stored")
        return store(*args, **kwargs)

    monkeypatch.setattr(completion, "_store_token", store_slowly)
    assert completion.succeed(claimed.attempt_id, grant())
    editor.join(timeout=60)
    assert order == ["stored", "edited"]
    assert StoredToken.objects.count() == 1
    account.refresh_from_db()
    assert account.credential_version == 2
