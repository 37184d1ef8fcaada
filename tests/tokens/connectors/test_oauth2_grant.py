"""A token endpoint's good answer as a grant: lifetimes, and what is no token."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from apps.tokens.connectors.oauth2_grant import jwt_expiry, read_grant
from apps.tokens.errors import UnexpectedPage

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def grant(**data):
    return read_grant({"access_token": "at-1", **data}, asked_at=NOW, step="login")


def signed(**claims):
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("k" * 32))


@pytest.mark.parametrize("lifetime", [600, 600.0, "600"])
def test_expires_in_counts_from_before_the_request(lifetime):
    assert grant(expires_in=lifetime).expires_at == NOW + timedelta(minutes=10)


@pytest.mark.parametrize("lifetime", [None, 0, -1, "soon", True, "nan", "inf", [], "1e999"])
def test_a_lifetime_that_says_nothing_is_none(lifetime):
    assert grant(expires_in=lifetime).expires_at is None


def test_an_absurd_lifetime_is_cut_to_ten_years():
    assert grant(expires_in=10**18).expires_at == NOW + timedelta(days=3650)


def test_a_jwt_says_itself_when_it_expires():
    exp = int(time.time()) + 900

    found = grant(access_token=signed(exp=exp)).expires_at

    assert found == datetime.fromtimestamp(exp, tz=UTC)


def test_expires_in_goes_before_the_jwt():
    token = signed(exp=1)

    assert grant(access_token=token, expires_in=60).expires_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "..", "e30.e30.x", "é.é.é", "a.W10.c"])
def test_what_is_no_jwt_with_an_exp_has_no_expiry(token):
    assert jwt_expiry(token) is None


@given(st.text())
def test_no_text_breaks_the_jwt_reader(text):
    jwt_expiry(f"x.{text}.y")


@pytest.mark.parametrize("token", [None, "", 7, {"a": 1}, "line\r\nX-Evil: 1", "tab\t", "ü"])
def test_what_is_no_token_is_unexpected(token):
    with pytest.raises(UnexpectedPage, match="access_token"):
        grant(access_token=token)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None, ""])
def test_a_bearer_is_accepted_however_it_is_written(kind):
    assert grant(token_type=kind).material.bearer == "at-1"


def test_a_token_of_another_type_is_refused():
    with pytest.raises(UnexpectedPage, match="bearer"):
        grant(token_type="DPoP")


@pytest.mark.parametrize("given_token", [None, "", 5, "a\nb"])
def test_a_refresh_token_that_is_none_keeps_the_old_one(given_token):
    assert grant(refresh_token=given_token).refresh_token is None


def test_secrets_do_not_show_in_a_grant():
    assert "at-1" not in repr(grant(refresh_token="rt-1"))
    assert "rt-1" not in repr(grant(refresh_token="rt-1"))
