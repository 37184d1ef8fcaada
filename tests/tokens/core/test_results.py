"""What a login's result changes, and what it must not change."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.history.models import TokenAcquisitionHistory
from apps.tokens.errors import NoAccountAvailable
from apps.tokens.models import (
    Account,
    LoginAttempt,
    RefreshToken,
    SecretVerdict,
    StoredToken,
    TokenRequest,
)
from apps.tokens.services import accounts, acquisition, completion, recovery, refresh, reports
from apps.tokens.services.acquisition import AcquireSpec
from apps.tokens.services.refresh import Lineage
from tests.tokens import scripted
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.scripted import ScriptedConnector
from tests.tokens.work import claim, probe, work


def ask(**spec):
    spec.setdefault("site", "court_zxfw")
    return acquisition.obtain(AcquireSpec(**spec), principal=caller())


def at_once(request_id):
    TokenRequest.objects.filter(pk=request_id).update(not_before=timezone.now())


def grant(bearer="t"):
    return ScriptedConnector()._grant({}, bearer)


def test_a_wrong_password_is_never_sent_twice():
    make_account(make_site(recipe={"fail": "InvalidCredentials"}), password="wrong")
    ask()
    work()
    with pytest.raises(NoAccountAvailable) as raised:
        ask()
    assert raised.value.details == {"reasons": {"secret_known_wrong": 1}}
    assert scripted.sent == [("alice", "wrong")]


def test_what_a_connector_says_holds_no_password_and_fits_a_row():
    account = make_account(make_site(recipe={"fail": "Gossip"}), password="hunter two")
    ask(account="alice")
    work()
    said = "It said : [redacted] is too old."
    account.refresh_from_db()
    assert LoginAttempt.objects.get().error_message == said
    assert TokenRequest.objects.get().error_message == said
    assert TokenAcquisitionHistory.objects.get().error_message == said
    assert account.needs_action
    assert "hunter" not in account.needs_action


def test_a_wrong_password_set_again_stays_known():
    account = make_account(make_site(recipe={"fail": "InvalidCredentials"}), password="wrong")
    ask()
    work()
    accounts.set_secrets(account, {"password": "other"})
    accounts.set_secrets(account, {"password": "wrong"})
    with pytest.raises(NoAccountAvailable):
        ask()


def test_a_corrected_password_is_used_at_once():
    account = make_account(make_site(recipe={"fail": ["InvalidCredentials", ""]}), password="wrong")
    ask()
    work()
    accounts.set_secrets(account, {"password": "right"})
    ask()
    assert work() == 1
    assert StoredToken.objects.count() == 1


def test_one_more_attempt_may_be_allowed_exactly_once():
    account = make_account(make_site(recipe={"fail": "InvalidCredentials"}), password="wrong")
    ask()
    work()
    accounts.allow_one_attempt(account, by="root", reason="the captcha was wrong")
    ask()
    assert work() == 1
    with pytest.raises(NoAccountAvailable):
        ask()
    assert len(scripted.sent) == 2


def test_with_any_account_wanted_a_wrong_password_moves_on_to_the_next_account():
    site = make_site(recipe={"fail": ["InvalidCredentials", ""]})
    make_account(site, "alice", preferred=True)
    make_account(site, "bob")
    ticket = ask()
    assert work() == 2
    assert TokenRequest.objects.get(pk=ticket.request_id).served_by == "bob"


def test_a_site_failure_is_retried_later_and_blames_no_account():
    account = make_account(make_site(recipe={"fail": ["SiteUnavailable", ""]}))
    ticket = ask()
    work()
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, row.error_code) == ("queued", "site_unavailable")
    account.refresh_from_db()
    assert (account.failure_count, account.cooldown_until) == (0, None)
    at_once(ticket.request_id)
    work()
    assert TokenRequest.objects.get(pk=ticket.request_id).status == "done"


def test_after_the_last_attempt_the_request_is_a_dead_letter():
    make_account(make_site(recipe={"fail": "SiteUnavailable"}))
    ticket = ask()
    for _ in range(3):
        at_once(ticket.request_id)
        work()
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, row.attempts) == ("dead", 3)
    assert TokenAcquisitionHistory.objects.get(request_id=row.pk).status == "failed"


def test_a_mistake_in_the_recipe_is_not_retried():
    make_account(make_site(recipe={"fail": "RecipeError"}))
    ticket = ask()
    work()
    assert TokenRequest.objects.get(pk=ticket.request_id).status == "failed"


def test_a_crash_of_our_own_code_blames_nobody_and_tells_no_secret():
    account = make_account(make_site(recipe={"fail": "Bug"}))
    ticket = ask()
    work()
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.error_code, "secret" in row.error_message) == ("worker_failed", False)
    account.refresh_from_db()
    assert account.cooldown_until is None


def test_a_locked_account_cools_down_longer_each_time():
    account = make_account(make_site(recipe={"fail": "AccountLocked"}))
    waits = []
    for _ in range(2):
        ask(account="alice")
        work()
        account.refresh_from_db()
        waits.append((account.cooldown_until - account.last_failure_at).total_seconds())
        Account.objects.update(cooldown_until=None)
    assert waits == [pytest.approx(30, abs=1), pytest.approx(60, abs=1)]


def test_a_success_clears_what_was_held_against_the_account():
    account = make_account(make_site())
    Account.objects.update(failures_in_a_row=3, cooldown_until=timezone.now())
    ask()
    work()
    account.refresh_from_db()
    assert (account.failures_in_a_row, account.cooldown_until) == (0, None)
    assert SecretVerdict.objects.get().proven_at


def test_a_late_token_of_an_old_password_is_refused():
    account = make_account(make_site())
    ticket = ask()
    old = claim()
    accounts.set_secrets(account, {"password": "new"})
    assert completion.succeed(old.attempt_id, grant()) is False
    assert not StoredToken.objects.exists()
    assert LoginAttempt.objects.get().outcome == "superseded"
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, row.attempts) == ("queued", 0)


def test_a_late_verdict_on_an_old_password_is_refused():
    from apps.tokens.errors import InvalidCredentials

    account = make_account(make_site())
    ask()
    old = claim()
    accounts.set_secrets(account, {"password": "new"})
    assert completion.fail(old.attempt_id, InvalidCredentials()) is False
    assert not SecretVerdict.objects.filter(wrong_at__isnull=False).exists()


def test_a_login_begun_before_a_revocation_cannot_bring_the_token_back():
    account = make_account(make_site())
    ask()
    work()
    token = StoredToken.objects.select_related("account__site").get()
    ask(force=True)
    old = claim()
    accounts.revoke(token, reason="revoked")
    assert completion.succeed(old.attempt_id, grant()) is False
    token.refresh_from_db()
    assert token.revoked_at
    assert account.logins.filter(outcome="").count() == 0


def test_a_result_is_written_once():
    make_account(make_site())
    ask()
    claimed = claim()
    assert completion.succeed(claimed.attempt_id, grant())
    assert completion.succeed(claimed.attempt_id, grant("again")) is False
    assert StoredToken.objects.get().version == 1


def test_a_token_that_is_over_on_arrival_is_not_stored():
    make_account(make_site(recipe={"ttl_s": -5}))
    ask()
    work()
    assert not StoredToken.objects.exists()
    assert LoginAttempt.objects.get().error_code == "unexpected_page"


def test_an_unproven_secret_in_doubt_is_sent_once_more_and_then_blocked():
    make_account(make_site(recipe={"fail": "LoginTimedOut"}))
    ticket = ask()
    for _ in range(4):
        at_once(ticket.request_id)
        work()
    assert len(scripted.sent) == 2
    assert LoginAttempt.objects.filter(resend_in_doubt=True).count() == 1
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, row.error_code) == ("failed", "secret_in_doubt")


def test_a_proven_secret_is_retried_after_doubt():
    make_account(make_site(recipe={"fail": ["", "LoginTimedOut", "LoginTimedOut", ""]}))
    ask()
    work()
    ticket = ask(force=True)
    for _ in range(3):
        at_once(ticket.request_id)
        work()
    assert TokenRequest.objects.get(pk=ticket.request_id).status == "done"


def test_a_refresh_token_is_used_instead_of_the_password():
    make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    first = RefreshToken.objects.get()
    ask(force=True)
    work()
    second = RefreshToken.objects.get()
    assert (len(scripted.logins), len(scripted.refreshes)) == (1, 1)
    assert (second.generation, second.parent_fingerprint) == (2, first.fingerprint)


def test_a_rejected_refresh_token_leads_to_a_login():
    make_account(make_site(recipe={"refresh": True, "refresh_fails": "RefreshRejected"}))
    ask()
    work()
    ask(force=True)
    work()
    assert (len(scripted.logins), len(scripted.refreshes)) == (2, 1)
    assert RefreshToken.objects.get().rejected_at is None


def test_a_refresh_in_doubt_is_not_sent_again():
    make_account(make_site(recipe={"refresh": True, "refresh_fails": "NetworkFailure"}))
    ask()
    work()
    ticket = ask(force=True)
    work()
    at_once(ticket.request_id)
    work()
    assert (len(scripted.logins), len(scripted.refreshes)) == (2, 1)


def test_a_rotated_refresh_token_outlives_a_worker_that_dies_right_after(
    monkeypatch,
):
    make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    first, ticket = RefreshToken.objects.get(), ask(force=True)

    def die(*_args, **_more):
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(completion, "succeed", die)
        with pytest.raises(SystemExit):
            work()
    rotated = RefreshToken.objects.get()
    assert (rotated.parent_fingerprint, rotated.sent_by) == (first.fingerprint, None)
    assert StoredToken.objects.get().version == 1  # nobody can have seen the new access token

    monkeypatch.setattr(recovery, "is_alive", lambda process: False)
    recovery.sweep()
    at_once(ticket.request_id)
    work()
    assert scripted.refreshes == [first.secret["token"], rotated.secret["token"]]
    assert len(scripted.logins) == 1


@pytest.mark.django_db(transaction=True)
def test_a_rotated_refresh_token_is_stored_through_an_outage(monkeypatch):
    make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    real, tries = refresh.accept, []

    def accept(*args):
        tries.append(args)
        if len(tries) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return real(*args)

    monkeypatch.setattr(refresh, "accept", accept)
    ask(force=True)
    work()
    assert (len(tries), RefreshToken.objects.get().generation) == (2, 2)
    assert (len(scripted.logins), len(scripted.refreshes)) == (1, 1)


def test_a_late_rotated_refresh_token_is_accepted_by_lineage_not_by_fence():
    account = make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    lineage = refresh.current(account.pk)
    Account.objects.update(fence=99)
    assert refresh.accept(account.pk, lineage, ScriptedConnector()._grant({"refresh": True}, "x"))
    assert RefreshToken.objects.get().parent_fingerprint == lineage.fingerprint


def test_a_refresh_token_of_a_dead_line_is_not_accepted():
    account = make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    stranger = Lineage(secret="x", fingerprint="nobody")
    before = RefreshToken.objects.get().fingerprint
    assert not refresh.accept(
        account.pk, stranger, ScriptedConnector()._grant({"refresh": True}, "x")
    )
    assert RefreshToken.objects.get().fingerprint == before


def test_an_answer_without_a_refresh_token_keeps_the_old_one():
    account = make_account(make_site(recipe={"refresh": True}))
    ask()
    work()
    lineage = refresh.current(account.pk)
    refresh.journal(account.pk, lineage, attempt_id=account.pk)
    assert refresh.accept(account.pk, lineage, grant())
    assert refresh.current(account.pk) == lineage


def test_a_one_time_code_is_used_once_a_step():
    account = make_account(make_site())
    from apps.tokens.services.context import _take_step

    ask()
    claimed = claim()
    assert _take_step(claimed, 30)
    assert not _take_step(claimed, 30)
    account.refresh_from_db()
    assert account.last_totp_step == 30


def report(token, principal=None, fingerprint=None):
    mark = fingerprint or token.fingerprint
    return reports.report(token, mark, principal=principal or caller())


def stored():
    ask()
    work()
    return StoredToken.objects.select_related("account__site").get()


def test_a_report_about_a_replaced_token_changes_nothing():
    make_account(make_site())
    assert report(stored(), fingerprint="older") == "superseded"


def test_a_reported_token_is_probed_and_kept_if_the_site_likes_it():
    make_account(make_site(recipe={"probe": "good"}))
    token = stored()
    assert report(token) == "probing"
    assert probe()
    token.refresh_from_db()
    assert (token.revoked_at, token.reported_at) == (None, None)


def test_a_reported_token_that_the_site_rejects_is_replaced_by_one_login():
    make_account(make_site(recipe={"probe": "bad"}))
    token = stored()
    report(token)
    report(token, caller(name="other-bot"))
    assert probe()
    assert not probe()
    work()
    token.refresh_from_db()
    assert (token.revoked_at, token.version, len(scripted.logins)) == (None, 2, 2)
    assert TokenRequest.objects.filter(reason="rejected").count() == 1


def test_without_a_probe_one_caller_has_a_budget_of_evictions():
    site = make_site()
    states = []
    for n in range(4):
        make_account(site, f"user-{n}")
        ask(account=f"user-{n}")
        work()
        token = StoredToken.objects.select_related("account__site").get(
            account__username=f"user-{n}"
        )
        states.append(str(report(token)))
    assert states == ["dropped", "dropped", "dropped", "noted"]
    assert report(token, caller(name="second")) == "dropped"


def test_a_dead_workers_login_is_made_again(monkeypatch):
    make_account(make_site())
    ticket = ask()
    claim()
    monkeypatch.setattr(recovery, "is_alive", lambda process: False)
    recovery.sweep()
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, LoginAttempt.objects.get().outcome) == ("queued", "lost")


def test_a_silent_worker_keeps_its_permits_until_the_deadline():
    make_account(make_site())
    ask()
    claimed = claim()
    from apps.tokens.models import WorkerProcess

    past = timezone.now() - timedelta(seconds=1)
    WorkerProcess.objects.update(lease_until=past, host="elsewhere")
    recovery.sweep()
    assert LoginAttempt.objects.get(pk=claimed.attempt_id).outcome == ""
    LoginAttempt.objects.update(deadline=past - timedelta(seconds=10))
    recovery.sweep()
    assert LoginAttempt.objects.get(pk=claimed.attempt_id).outcome == "lost"
    WorkerProcess.objects.update(ended_at=past, ended_how="died")


def test_a_request_nobody_can_serve_in_time_expires():
    make_account(make_site())
    ticket = ask()
    TokenRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    recovery.sweep()
    assert TokenRequest.objects.get(pk=ticket.request_id).status == "expired"


def test_history_that_could_not_be_written_is_written_later(monkeypatch):
    from django.db import DatabaseError

    from apps.history import services as history

    make_account(make_site())
    ticket = ask()

    def broken(record):
        raise DatabaseError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(history, "record", broken)
        work()
    row = TokenRequest.objects.get(pk=ticket.request_id)
    assert (row.status, row.history_pending) == ("done", True)
    recovery.sweep()
    assert TokenAcquisitionHistory.objects.filter(request_id=row.pk).count() == 1


def test_a_login_whose_result_could_not_be_written_gives_its_permit_back():
    make_account(make_site())
    ticket = ask()
    claim()
    LoginAttempt.objects.update(deadline=timezone.now() - timedelta(seconds=60))
    recovery.sweep()
    assert LoginAttempt.objects.get().outcome == ""
    LoginAttempt.objects.update(deadline=timezone.now() - timedelta(seconds=121))
    recovery.sweep()
    assert LoginAttempt.objects.get().outcome == "lost"
    assert TokenRequest.objects.get(pk=ticket.request_id).status == "queued"
