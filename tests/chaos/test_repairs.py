"""What the chaos runs found, each as small as it can be made."""

import asyncio
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.tokens.contracts import LoginGrant, TokenMaterial
from apps.tokens.errors import InvalidCredentials, LeaseLost, LoginTimedOut
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    SecretVerdict,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.services import accounts, completion, locks, owner, recovery, selection
from apps.tokens.services.context import WorkerContext
from apps.tokens.services.owner import Owner
from tests.tokens.factories import make_account, make_site


@pytest.fixture(autouse=True)
def quiet(settings, monkeypatch):
    settings.LATCHKEY_CONNECTORS = {"scripted": "tests.tokens.scripted.ScriptedConnector"}
    monkeypatch.setattr("apps.tokens.services.hints.send_to", lambda cluster: True)


@pytest.fixture
def clock(monkeypatch):
    """The owner's clock, by hand."""
    hands = [1000.0]
    monkeypatch.setattr(owner, "ticking_s", lambda: hands[0])
    monkeypatch.setattr(owner, "_owners", {})
    return hands


def attempt_of(account: Account, **facts) -> LoginAttempt:
    """Return an open login of the account's present world, its secret sent."""
    at = timezone.now()
    request = TokenRequest.objects.create(
        site=account.site, account=account, requested_key=str(account.pk), status="running",
        reason="no_token", order_at=at, not_before=at, expires_at=at, created_at=at, attempts=1,
    )  # fmt: skip
    worker = WorkerProcess.objects.create(
        host="h", pid=1, process_started_at=1, cluster="default", slots=1, started_at=at,
        lease_until=at,
    )  # fmt: skip
    account.refresh_from_db()
    values = {
        "request": request, "site": account.site, "account": account, "owner": worker,
        "fence": account.fence, "credential_version": account.credential_version,
        "concurrency_at_start": 1, "started_at": at, "deadline": at, "secret_sent_at": at,
        "secret_fingerprint": account.secret_fingerprint,
    }  # fmt: skip
    return LoginAttempt.objects.create(**{**values, **facts})


def grant(bearer: str) -> LoginGrant:
    return LoginGrant(material=TokenMaterial(bearer=bearer))


@pytest.mark.django_db
def test_a_login_sends_nothing_more_once_its_lease_was_over_though_renewed(clock):
    mine = Owner.take(cluster="default")
    context = WorkerContext(claim=None, owner=mine, threads=None, term=mine.term)
    clock[0] += mine.lease_s - 1
    assert mine.beat()
    asyncio.run(context.check_lease())
    clock[0] += mine.lease_s
    assert mine.beat()
    assert mine.stands()
    with pytest.raises(LeaseLost):
        asyncio.run(context.check_lease())


@pytest.mark.django_db
def test_a_wrong_password_stays_known_though_a_token_was_revoked_meanwhile():
    account = make_account(make_site())
    completion.succeed(attempt_of(account).pk, grant("old"))
    late = attempt_of(account)
    accounts.revoke(StoredToken.objects.get(account=account), reason="test")
    assert completion.fail(late.pk, InvalidCredentials("no")) is False
    verdict = SecretVerdict.objects.get(account=account)
    assert verdict.fingerprint == account.secret_fingerprint
    assert verdict.wrong_at is not None


@pytest.mark.django_db
def test_a_verdict_on_an_old_password_is_refused():
    account = make_account(make_site())
    late = attempt_of(account)
    accounts.set_secrets(account, {"password": "another"})
    completion.fail(late.pk, InvalidCredentials("no"))
    assert not SecretVerdict.objects.exists()


@pytest.mark.django_db
def test_a_secret_without_an_answer_stays_in_doubt_though_a_token_was_revoked_meanwhile():
    account = make_account(make_site())
    late = attempt_of(account)
    Account.objects.filter(pk=account.pk).update(fence=account.fence + 1)
    completion.fail(late.pk, LoginTimedOut("late"))
    assert LoginAttempt.objects.get(pk=late.pk).outcome == "superseded"
    assert selection.with_facts(Account.objects.all()).get().doubts == 1


@pytest.fixture
def slow_lock(monkeypatch):
    """A clock on which every wait for the admission lock takes a whole lease."""
    hands = [0.0]

    @contextmanager
    def waiting():
        hands[0] += AdmissionLimits.current().lease_s
        with admission() as at:
            yield at

    admission = locks.admission
    monkeypatch.setattr(recovery, "monotonic", lambda: hands[0])
    monkeypatch.setattr(recovery.locks, "admission", waiting)


@pytest.mark.django_db
def test_the_permit_of_a_dead_worker_returns_however_busy_the_database_is(slow_lock):
    attempt = attempt_of(make_account(make_site()))
    WorkerProcess.objects.update(ended_at=timezone.now(), ended_how="died")
    recovery.sweep()
    assert LoginAttempt.objects.get(pk=attempt.pk).outcome == "lost"


@pytest.mark.django_db
def test_a_silent_worker_keeps_its_permit_while_the_database_holds_heartbeats_up(slow_lock):
    long_ago = timezone.now() - timedelta(hours=1)
    attempt = attempt_of(make_account(make_site()), deadline=long_ago)
    recovery.sweep()
    assert LoginAttempt.objects.get(pk=attempt.pk).outcome == ""
