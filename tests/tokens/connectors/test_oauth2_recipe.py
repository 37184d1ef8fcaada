"""Recipes of the OAuth2 connector: what is refused, and on which line."""

import pytest

from apps.tokens.connectors.oauth2 import OAuth2Connector
from apps.tokens.connectors.oauth2_errors import BY_NAME
from apps.tokens.connectors.oauth2_recipe import OAuth2Recipe
from apps.tokens.connectors.oauth2_schema import OAUTH2, load_recipe
from apps.tokens.connectors.schema import schema
from apps.tokens.errors import InvalidRecipe, RecipeError
from tests.tokens.connectors.fakes import make_site

WHOLE = """\
version: 1
description: Everything the format knows
variables: {host: portal.example, base: "https://${host}"}
grant: jwt_bearer
token_url: ${base}/token
revoke_url: ${base}/revoke
client_id: shared
client_auth: client_secret_jwt
scope: [read, write]
audience: api
extra: {resource: "urn:${site}", key: "${api_key}"}
refresh: true
assertion:
  alg: HS256
  key_id: k-1
  issuer: ${username}
  subject: ""
  audience: ${base}
  lifetime_s: 60
  claims: {tenant: ["${site}", 1], nested: {deep: true}}
errors: {locked: account_locked}
verify: {url: "${base}/me", success_status: [200]}
probe: {method: HEAD, url: "${base}/me", headers: {X-T: "${token.bearer}"}, bad_status: [403]}
health: {url: "${base}/up", success_status: [200, 405]}
"""
SMALL = {"version": 1, "grant": "password", "token_url": "https://portal.example/token"}


def errors(text):
    with pytest.raises(InvalidRecipe) as caught:
        load_recipe(text)
    return [(error["line"], error["path"]) for error in caught.value.details["errors"]]


def fault(**changes):
    with pytest.raises(InvalidRecipe) as caught:
        OAuth2Connector().validate({**SMALL, **changes})
    (error,) = caught.value.details["errors"]
    return error["path"], error["reason"]


def test_a_recipe_may_use_everything():
    recipe = OAuth2Recipe.parse(load_recipe(WHOLE))

    assert recipe.scope == "read write"
    assert recipe.probe is not None
    assert recipe.probe.bad_status == {403}


def test_the_least_recipe():
    OAuth2Connector().validate(SMALL)


@pytest.mark.parametrize(
    ("was", "becomes", "found"),
    [
        ("grant: jwt_bearer", "grant: implicit", (4, "grant")),
        ("revoke_url", "revoke_uri", (6, "revoke_uri")),
        ("  lifetime_s: 60", "  lifetime_s: 86400", (19, "assertion.lifetime_s")),
        ("  alg: HS256", "  alg: none", (14, "assertion.alg")),
        ("success_status: [200]}", "success_status: []}", (22, "verify.success_status")),
        ("account_locked", "my_fault", (21, "errors.locked")),
        ("token_url: ${base}", "token_url: ${bse}", (5, "token_url")),
        ("revoke_url: ${base}", "revoke_url: ${base", (6, "revoke_url")),
        ("key: ", "grant_type: ", (11, "extra.grant_type")),
        ("{tenant: ", "{exp: ", (20, "assertion.claims.exp")),
        ("${base}/up", "${base}/up?p=${password}", (24, "health.url")),
    ],
)
def test_an_error_names_its_line_and_path(was, becomes, found):
    assert WHOLE.count(was) == 1

    assert errors(WHOLE.replace(was, becomes)) == [found]


@pytest.mark.parametrize("missing", ["version", "grant", "token_url"])
def test_what_is_missing_is_named(missing):
    data = {key: value for key, value in SMALL.items() if key != missing}

    with pytest.raises(InvalidRecipe, match=f"{missing} is missing"):
        OAuth2Connector().validate(data)


def test_a_jwt_bearer_needs_an_algorithm():
    assert fault(grant="jwt_bearer") == ("grant", "The grant jwt_bearer needs assertion.alg.")


@pytest.mark.parametrize(
    ("client_auth", "alg"), [("private_key_jwt", "HS256"), ("client_secret_jwt", "RS256")]
)
def test_the_algorithm_must_fit_the_clients_secret(client_auth, alg):
    path, reason = fault(client_auth=client_auth, assertion={"alg": alg})

    assert path == "assertion.alg"
    assert client_auth in reason


def test_a_token_cannot_be_spoken_of_before_there_is_one():
    path, reason = fault(extra={"old": "${token.bearer}"})

    assert path == "extra"
    assert "no token yet" in reason


def test_a_variable_may_use_only_those_before_it():
    path, reason = fault(variables={"a": "${b}", "b": "x"})

    assert path == "variables.a"
    assert "'b'" in reason


def test_a_recipe_stored_without_a_check_is_a_recipe_error():
    site = make_site(recipe={"grant": "password"})

    with pytest.raises(RecipeError, match="schema of oauth2"):
        OAuth2Connector().can_refresh(site)


def test_the_names_of_errors_are_the_same_in_schema_and_code():
    allowed = schema(OAUTH2)["properties"]["errors"]["additionalProperties"]["enum"]

    assert set(allowed) == set(BY_NAME)
