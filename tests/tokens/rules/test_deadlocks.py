"""Two who change the same rows in different orders: PostgreSQL would end one of them.

Each test holds a change at the worst moment, until the other one waits for it, and then lets it
go on. On SQLite there is one writer at a time, and nothing to test.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from apps.common.database import is_unavailable
from apps.common.errors import BusinessRuleViolated
from apps.tokens.models import Account, Site, StoredToken, TokenReport
from apps.tokens.services import accounts, breaker, completion, locks, reports, requests
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.rules.support import ask, claim, grant, refreshed, send, succeed

LIMIT_S = 60

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time"),
]


@pytest.fixture
def meanwhile(monkeypatch):
    """Do one thing in the middle of another: return what came of it.

    `meanwhile(what, inside=(module, name), do=other)` calls `what`; when it comes to call
    `module.name`, `other` begins in a thread and goes as far as it can before `what` goes on.
    """

    def run(what, *, inside, do):
        owner, name = inside
        hit = getattr(owner, name)
        begun = []

        def other():
            try:
                return do()
            finally:
                connection.close()

        def held(*args, **kwargs):
            monkeypatch.setattr(owner, name, hit)
            begun.append(pool.submit(other))
            end = time.monotonic() + LIMIT_S
            while not (begun[0].done() or _somebody_waits() or time.monotonic() > end):
                time.sleep(0.01)
            return hit(*args, **kwargs)

        monkeypatch.setattr(owner, name, held)
        with ThreadPoolExecutor(1) as pool:
            what()
        return begun[0].exception() or begun[0].result()

    return run


def _somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0


def test_a_new_password_and_an_admission_do_not_lock_each_other(meanwhile):
    account = make_account(make_site())
    ask(account="alice")
    claimed = meanwhile(
        lambda: accounts.set_secrets(account, {"password": "new"}),
        inside=(requests, "reconsider"),
        do=claim,
    )
    assert claimed.credential_version == refreshed(account).credential_version == 2


def test_a_dropped_token_and_a_result_do_not_lock_each_other(meanwhile):
    make_account(make_site())
    ask(account="alice")
    succeed()
    token = StoredToken.objects.select_related("account__site").get()
    ask(account="alice", force=True)
    claimed = claim()
    send(claimed)
    by_others = {"principal_kind": "key", "principal_id": "zoe", "at": token.issued_at}
    TokenReport.objects.create(token=token, fingerprint=token.fingerprint, **by_others)
    written = meanwhile(
        lambda: reports.report(token, token.fingerprint, principal=caller()),
        inside=(accounts, "revoke"),
        do=lambda: completion.succeed(claimed.attempt_id, grant("late")),
    )
    assert written is False
    assert Account.objects.get().fence == 2


def test_an_account_is_not_removed_under_a_login_that_begins(meanwhile):
    account = make_account(make_site())
    ask(account="alice")
    refused = meanwhile(
        claim, inside=(breaker, "admitted"), do=lambda: accounts.remove(refreshed(account))
    )
    assert isinstance(refused, BusinessRuleViolated)
    assert refreshed(account)


def test_who_holds_the_lock_and_is_not_heard_of_loses_it(monkeypatch):
    """A process that was stopped, or a host that was cut off, in the middle of an admission."""
    monkeypatch.setattr(locks, "SILENT_FOR_MS", 200)
    gone, took = threading.Event(), []

    def stopped():
        try:
            with locks.admission():
                assert gone.wait(LIMIT_S)
                make_site("never")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(stopped)
        while not _is_held() and not holder.done():
            time.sleep(0.01)
        with locks.admission():
            took.append(True)
        gone.set()
        assert is_unavailable(holder.exception())
    assert (took, Site.objects.count()) == ([True], 0)


def _is_held():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        return cursor.fetchone()[0] > 0
