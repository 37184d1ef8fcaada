"""Whose fault a failed login is, and when nobody may be blamed."""

import time
from email.utils import formatdate

import httpx
import pytest

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.connectors.verdicts import retry_after_s
from apps.tokens.errors import (
    AccountLocked,
    AccountNeedsAction,
    ChallengeUnanswered,
    InvalidCredentials,
    NetworkFailure,
    OneTimeCodeRejected,
    RateLimited,
    SiteUnavailable,
    UnexpectedPage,
)
from tests.tokens.connectors.recipes import context_for, login, one_step


async def failure(extra, answer, kind, **options):
    with pytest.raises(kind) as caught:
        await login(one_step(extra), [answer], **options)
    assert type(caught.value) is kind
    assert caught.value.step == "login"
    return caught.value


def listed(*items):
    return f"failures: [{', '.join(items)}]"


WRONG = "{when: {text_contains: wrong}, is: invalid_credentials}"
CODE = "{when: {text_contains: code}, is: one_time_code_rejected}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("invalid_credentials", InvalidCredentials),
        ("account_locked", AccountLocked),
        ("account_needs_action", AccountNeedsAction),
        ("one_time_code_rejected", OneTimeCodeRejected),
        ("challenge_needed", ChallengeUnanswered),
        ("rate_limited", RateLimited),
        ("site_unavailable", SiteUnavailable),
        ("unexpected_page", UnexpectedPage),
    ],
)
async def test_a_condition_names_the_failure(name, kind):
    extra = listed(f"{{when: {{status: 200}}, is: {name}, message: Ask the registry}}")
    error = await failure(extra, httpx.Response(200), kind)
    assert error.message == "Ask the registry"


@pytest.mark.parametrize(
    "condition",
    [
        "{status: 403}", "{status: [401, 403]}", "{status: 4xx}",
        "{text_contains: denied}", "{text_contains: [nothing, denied]}",
        "{text_contains: '${username}'}",
        "{text_matches: 'den[i]ed'}",
        "{jmespath: code, equals: 7}", "{jmespath: code, equals: '7'}",
        "{jmespath: code, in: [1, 7]}",
        "{jmespath: code}", "{jmespath: code, exists: true}", "{jmespath: gone, exists: false}",
        "{jmespath: gone, equals: null}", "{jmespath: ok, equals: false}",
        "{jmespath: text, matches: '^acc'}",
        "{header: X-Why, equals: locked}", "{header: X-Why, matches: lock}", "{header: X-Why}",
        "{cookie: failed}", "{url_contains: /login}",
        "{any: [{status: 500}, {status: 403}]}", "{all: [{status: 403}, {jmespath: code}]}",
        "{not: {status: 200}}", "{status: 403, jmespath: code, equals: 7}",
    ],
)  # fmt: skip
async def test_conditions_that_hold(condition):
    said = httpx.Response(
        403,
        json={"code": 7, "ok": False, "text": "access denied for alice"},
        headers={"X-Why": "locked", "Set-Cookie": "failed=1"},
    )
    await failure(listed(f"{{when: {condition}, is: account_locked}}"), said, AccountLocked)


@pytest.mark.parametrize(
    "condition",
    [
        "{status: 401}", "{status: 5xx}", "{text_contains: other}", "{text_matches: '^x'}",
        "{jmespath: code, equals: 8}", "{jmespath: code, in: [1, 2]}", "{jmespath: gone}",
        "{jmespath: one, equals: true}", "{jmespath: code, exists: false}",
        "{header: X-Why, equals: x}", "{header: X-Gone}", "{cookie: gone}", "{css: b}",
        "{url_contains: /home}", "{any: [{status: 1xx}]}", "{all: [{status: 403}, {status: 404}]}",
        "{not: {status: 403}}", "{status: 403, jmespath: code, equals: 8}",
    ],
)  # fmt: skip
async def test_conditions_that_do_not_hold(condition):
    said = httpx.Response(403, json={"code": 7, "one": 1}, headers={"X-Why": "locked"})
    await failure(listed(f"{{when: {condition}, is: account_locked}}"), said, UnexpectedPage)


async def test_css_finds_an_element():
    page = httpx.Response(200, html="<div class=error>no</div>")
    await failure(listed("{when: {css: .error}, is: account_locked}"), page, AccountLocked)


async def test_an_answer_nobody_described_is_never_a_wrong_password():
    for status in (400, 401, 403, 404):
        await failure("", httpx.Response(status), UnexpectedPage)


async def test_success_conditions_must_all_hold():
    extra = "success: [{status: 200}, {jmespath: code, equals: 0}]"
    await failure(extra, httpx.Response(200, json={"code": 1}), UnexpectedPage)


async def test_the_first_failure_that_matches_decides():
    extra = listed(
        "{when: {status: 403}, is: account_locked}", "{when: {status: 4xx}, is: rate_limited}"
    )
    await failure(extra, httpx.Response(403), AccountLocked)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "other", ["account_locked", "challenge_needed", "rate_limited", "unexpected_page"]
)
async def test_a_page_with_two_meanings_is_never_a_wrong_password(other, first):
    items = [WRONG, f"{{when: {{text_contains: captcha}}, is: {other}}}"]
    extra = listed(*(items if first else items[::-1]))
    said = httpx.Response(200, text="wrong captcha or password")
    error = await failure(extra, said, UnexpectedPage)
    assert other in error.message


async def test_an_error_page_that_speaks_of_passwords_is_the_sites_fault():
    await failure(listed(WRONG), httpx.Response(503, text="wrong"), SiteUnavailable)
    await failure(listed(WRONG), httpx.Response(429, text="wrong"), RateLimited)


async def test_a_site_that_answers_500_for_a_wrong_password_can_be_described():
    extra = listed("{when: {status: 500, text_contains: wrong}, is: invalid_credentials}")
    await failure(extra, httpx.Response(500, text="wrong"), InvalidCredentials)


async def test_after_a_one_time_code_the_code_is_blamed():
    extra = "query: {c: '${totp}'}\n    " + listed(WRONG)
    await failure(extra, httpx.Response(200, text="wrong"), OneTimeCodeRejected, codes=["1"])


async def test_after_a_one_time_code_in_an_earlier_step_the_code_is_blamed():
    text = one_step(listed(WRONG)).replace(
        "steps:\n", "steps:\n  - {name: code, url: 'https://portal.example/c?c=${totp}'}\n"
    )
    answers = [httpx.Response(200), httpx.Response(200, text="wrong")]
    with pytest.raises(OneTimeCodeRejected):
        await login(text, answers, codes=["1"])


async def test_a_recipe_can_tell_a_wrong_password_from_a_wrong_code():
    query = "query: {c: '${totp}'}\n    "
    precise = WRONG.replace("is:", "precise: true, is:")
    said = httpx.Response(200, text="wrong")
    await failure(query + listed(precise), said, InvalidCredentials, codes=["1"])
    await failure(query + listed(WRONG, CODE), said, InvalidCredentials, codes=["1"])


async def test_a_page_that_means_password_or_code_is_the_code():
    said = httpx.Response(200, text="wrong password or code")
    await failure(listed(WRONG, CODE), said, OneTimeCodeRejected)


async def test_429_and_5xx_need_no_condition():
    error = await failure("", httpx.Response(429, headers={"Retry-After": "30"}), RateLimited)
    assert error.retry_after_s == 30
    error = await failure("", httpx.Response(502), SiteUnavailable)
    assert error.retry_after_s is None
    extra = "success: [{text_contains: token}]"
    await failure(extra, httpx.Response(503, text="token"), SiteUnavailable)


async def test_a_success_may_name_an_unusual_status():
    grant, _context = await login(
        one_step("success: [{status: 503}]"), [httpx.Response(503, json={"token": "t"})]
    )
    assert grant.material.bearer == "t"


async def test_retry_after_may_be_captured():
    extra = listed(
        "{when: {status: 403}, is: account_locked, retry_after: {jmespath: locked_for_s}}"
    )
    error = await failure(extra, httpx.Response(403, json={"locked_for_s": 600}), AccountLocked)
    assert error.retry_after_s == 600


def test_retry_after_is_read_in_both_forms_and_bounded():
    assert retry_after_s(" 120 ") == 120
    assert retry_after_s("999999999") == 86_400
    assert 50 < retry_after_s(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert retry_after_s("soon") is None
    assert retry_after_s("") is None
    assert retry_after_s("-5") is None


async def test_a_network_failure_names_its_step():
    def refuse(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(NetworkFailure) as caught:
        await login(one_step(""), refuse)
    assert caught.value.step == "login"
    assert caught.value.details == {"step": "login"}


async def test_a_failed_step_is_traced_with_its_verdict():
    context = context_for(one_step(""), [httpx.Response(503)])
    with pytest.raises(SiteUnavailable):
        await HttpRecipeConnector().login(context)
    (trace,) = context.traces
    assert (trace.status, trace.verdict) == (503, "site_unavailable")
