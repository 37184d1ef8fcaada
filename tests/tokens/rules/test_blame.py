"""Each kind of failure moves what is guilty, and nothing else. One row for every class."""

from inspect import isclass

import pytest

from apps.common.errors import NotPermitted
from apps.tokens import errors
from apps.tokens.errors import LoginFailure
from apps.tokens.models import LoginAttempt, SecretVerdict, SiteBreaker
from apps.tokens.services import completion
from tests.tokens import scripted
from tests.tokens.factories import make_account, make_site
from tests.tokens.rules.support import ask, codes, fail, no_wait, refreshed, row, send
from tests.tokens.work import claim, work

# failure: (request named / any account, account, secret called wrong, failures of the site)
# account: "" untouched, "counted", "cooling" (counted and resting), "person" (counted, waits)
MOVES = {
    "LoginFailure": ("failed", "failed", "", False, 0),
    "InvalidCredentials": ("failed", "queued", "counted", True, 0),
    "OneTimeCodeRejected": ("queued", "queued", "cooling", False, 0),
    "AccountLocked": ("failed", "queued", "cooling", False, 0),
    "AccountNeedsAction": ("failed", "queued", "person", False, 0),
    "ChallengeUnanswered": ("failed", "queued", "cooling", False, 0),
    "RateLimited": ("queued", "queued", "", False, 0),
    "SiteUnavailable": ("queued", "queued", "", False, 1),
    "LoginTimedOut": ("queued", "queued", "", False, 1),
    "UnexpectedPage": ("queued", "queued", "", False, 1),
    "NetworkFailure": ("queued", "queued", "", False, 0),
    "RecipeError": ("failed", "failed", "", False, 0),
    "HostNotAllowed": ("failed", "failed", "", False, 0),
    "LeaseLost": ("queued", "queued", "", False, 0),
    "WorkerFailed": ("queued", "queued", "", False, 0),
    "RefreshRejected": ("failed", "queued", "cooling", False, 0),
}


def test_the_table_names_every_failure():
    found = {
        name for name, one in vars(errors).items() if isclass(one) and issubclass(one, LoginFailure)
    }
    assert found == set(MOVES)


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("wanted", ["alice", None], ids=["named", "any"])
def test_a_failure_moves_exactly_what_is_guilty(name, wanted):
    named, any_account, moved, is_wrong, site_failures = MOVES[name]
    site = make_site()
    account = make_account(site)
    make_account(site, "bob", failure_count=1)
    pk = ask(account=wanted)
    fail(name)
    account.refresh_from_db()
    found = (
        row(pk).status,
        bool(account.failure_count),
        bool(account.cooldown_until),
        bool(account.needs_action),
        SecretVerdict.objects.filter(wrong_at__isnull=False).exists(),
        sum(SiteBreaker.objects.values_list("failures_in_a_row", flat=True)),
        refreshed(site).cooldown_until is not None,
    )
    assert found == (
        named if wanted else any_account,
        moved != "",
        moved == "cooling",
        moved == "person",
        is_wrong,
        site_failures,
        name == "RateLimited",
    )
    assert LoginAttempt.objects.get().blame == getattr(errors, name).blame


@pytest.mark.parametrize("name", MOVES)
def test_a_failure_says_itself_in_the_attempt_and_the_request(name):
    make_account(make_site())
    pk = ask(account="alice")
    fail(name)
    code = getattr(errors, name).code
    assert (LoginAttempt.objects.get().error_code, row(pk).error_code) == (code, code)


def test_a_longer_lock_than_ours_holds():
    account = make_account(make_site())
    ask(account="alice")
    fail("AccountLocked", retry_after_s=5000)
    account.refresh_from_db()
    assert (account.cooldown_until - account.last_failure_at).total_seconds() == 5000


@pytest.mark.parametrize(
    ("before", "rest_s"), [(0, 30), (1, 60), (6, 1920), (7, 3600), (5000, 3600)]
)
def test_an_account_rests_longer_each_time_up_to_an_hour(before, rest_s):
    account = make_account(make_site(), failures_in_a_row=before)
    ask(account="alice")
    fail("AccountLocked")
    account.refresh_from_db()
    assert (account.cooldown_until - account.last_failure_at).total_seconds() == rest_s


def test_what_was_not_sent_is_not_called_wrong_for_another_secret():
    account = make_account(make_site())
    ask(account="alice")
    claimed = claim()
    send(claimed)
    completion.fail(claimed.attempt_id, errors.InvalidCredentials())
    assert SecretVerdict.objects.get().fingerprint == account.secret_fingerprint


# allow_one_attempt -------------------------------------------------------------------------


@pytest.fixture
def blocked():
    account = make_account(make_site(recipe={"fail": "InvalidCredentials"}), password="wrong")
    ask()
    work()
    return account


def allow(api, account, **options):
    return api(**options).post(f"accounts/{account.pk}/allow-attempt", {"reason": "a captcha"})


def test_an_operator_allows_exactly_one_more_sending(blocked, api):
    assert allow(api, blocked).status == 204
    ask()
    assert (work(), len(scripted.sent)) == (1, 2)
    from apps.tokens.errors import NoAccountAvailable

    with pytest.raises(NoAccountAvailable):
        ask()


def test_without_the_scope_nobody_allows_it(blocked, api):
    from apps.access.contracts import Scope

    refused = allow(api, blocked, scopes=(Scope.SITES_READ, Scope.ACCOUNTS_WRITE))
    assert (refused.status, refused.json["code"]) == (NotPermitted.status, NotPermitted.code)
    assert SecretVerdict.objects.get().allowed_once_at is None


def test_permissions_do_not_add_up(blocked, api):
    allow(api, blocked)
    allow(api, blocked)
    ask()
    work()
    assert len(scripted.sent) == 2


def test_a_permission_is_used_up_by_sending_even_if_the_worker_dies(blocked, api, monkeypatch):
    from apps.tokens.services import context, recovery

    allow(api, blocked)
    pk = ask()
    claimed = claim()
    context._record_sending(claimed)
    monkeypatch.setattr(recovery, "is_alive", lambda process: False)
    recovery.sweep()
    no_wait()
    assert claim() is None
    assert row(pk).error_code == "secret_known_wrong"


def test_a_permission_is_kept_while_nothing_was_sent(blocked, api):
    allow(api, blocked)
    ask()
    fail("NetworkFailure", sent=False)
    no_wait()
    assert claim()


def test_explain_says_that_the_secret_is_known_to_be_wrong(blocked):
    make_account(blocked.site, "bob")
    from apps.tokens.services import explain

    verdicts = {one.account: one.reason for one in explain.site(blocked.site).accounts}
    assert verdicts == {"alice": "secret_known_wrong", "bob": ""}
    assert codes(ask(account="bob")) == ["worker"]
