"""What a token endpoint's refusal means, and that no refusal repeats what the site said."""

from datetime import UTC, datetime

import httpx
import pytest

from apps.common import clock
from apps.tokens.connectors.oauth2_errors import BY_NAME, read_answer, retry_after_s
from apps.tokens.connectors.oauth2_recipe import OAuth2Recipe
from apps.tokens.errors import (
    AccountLocked,
    AccountNeedsAction,
    InvalidCredentials,
    RateLimited,
    RecipeError,
    RefreshRejected,
    SiteUnavailable,
    UnexpectedPage,
)


def recipe(grant="password", **changes):
    return OAuth2Recipe.parse(
        {"version": 1, "grant": grant, "token_url": "https://portal.example/token", **changes}
    )


def failure(answer, refreshing=False, **changes):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the type is what is asked
        read_answer(answer, recipe(**changes), step="login", refreshing=refreshing)
    return caught.value


def refused(code, status=400, **more):
    return httpx.Response(status, json={"error": code, **more})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_client", InvalidCredentials),
        ("invalid_grant", InvalidCredentials),
        ("unauthorized_client", RecipeError),
        ("unsupported_grant_type", RecipeError),
        ("invalid_scope", RecipeError),
        ("invalid_request", RecipeError),
        ("temporarily_unavailable", SiteUnavailable),
        ("server_error", SiteUnavailable),
        ("slow_down", RateLimited),
        ("mfa_required", AccountNeedsAction),
        ("something_new", UnexpectedPage),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401])
def test_each_code_blames_one_side(code, kind, status):
    assert type(failure(refused(code, status))) is kind


@pytest.mark.parametrize(
    ("grant", "refreshing", "kind"),
    [
        ("password", False, InvalidCredentials),
        ("password", True, RefreshRejected),
        ("refresh_token", False, InvalidCredentials),
        ("refresh_token", True, RefreshRejected),
        ("jwt_bearer", False, AccountNeedsAction),
    ],
)
def test_invalid_grant_depends_on_what_was_granted(grant, refreshing, kind):
    assert type(failure(refused("invalid_grant"), refreshing, grant=grant)) is kind


def test_a_client_only_the_recipe_names_is_the_recipes_fault():
    error = failure(refused("invalid_client"), client_id="shared", client_auth="none")

    assert type(error) is RecipeError


def test_a_recipe_can_say_what_a_code_of_its_site_means():
    error = failure(refused("invalid_grant"), errors={"invalid_grant": "account_locked"})

    assert type(error) is AccountLocked


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_5xx_is_the_sites_fault_whatever_it_says(status):
    error = failure(refused("invalid_grant", status))

    assert type(error) is SiteUnavailable


def test_a_429_carries_the_time_to_wait():
    error = failure(httpx.Response(429, headers={"Retry-After": "17"}, json={"error": "x"}))

    assert type(error) is RateLimited
    assert error.retry_after_s == 17


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Log in</html>"),
        httpx.Response(401, text="Unauthorized"),
        httpx.Response(200, json=["access_token"]),
        httpx.Response(200, content=b"\xff\xfe{"),
        httpx.Response(200, content=b"[" * 200_000),
        httpx.Response(302, headers={"Location": "/"}),
        httpx.Response(403, json={"message": "no"}),
        httpx.Response(400, json={"access_token": "at-1"}),
    ],
)
def test_what_is_no_oauth_answer_is_unexpected(answer):
    assert type(failure(answer)) is UnexpectedPage


def test_the_sites_own_words_are_never_repeated():
    described = refused("invalid_grant", error_description="password hunter2 is wrong")

    assert "hunter2" not in str(failure(described))
    assert "hunter2" not in str(failure(refused("wrong: hunter2")))
    assert str(failure(refused("invalid_grant"))) == "The token endpoint refused: invalid_grant."


def test_an_empty_error_is_none():
    data = {"access_token": "at-1", "error": ""}

    assert read_answer(httpx.Response(200, json=data), recipe(), step="login") == data


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("999999999", 86_400.0),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header, seconds, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 23, 12, 0, tzinfo=UTC))

    assert retry_after_s(httpx.Response(503, headers={"Retry-After": header})) == seconds


def test_names_for_recipes_are_the_agreed_ones():
    assert set(BY_NAME) == {
        "account_locked",
        "account_needs_action",
        "invalid_credentials",
        "one_time_code_rejected",
        "rate_limited",
        "site_unavailable",
        "unexpected_page",
    }
