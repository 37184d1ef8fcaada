"""JWT assertions (RFC 7523): for the account and for the client, checked with another key half."""

from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from apps.tokens.connectors.oauth2 import OAuth2Connector
from apps.tokens.errors import RecipeError
from tests.tokens.connectors.fakes import FakeContext, make_credentials, make_site

TOKEN_URL = "https://portal.example/token"
RSA = RSAKey.generate_key(2048, private=True)
EC = ECKey.generate_key("P-256", private=True)
SHARED = "shared-secret-of-32-characters!!"
KEYS = {
    "RS256": {"private_key": RSA.as_pem(private=True).decode()},
    "PS256": {"private_key": RSA.as_pem(private=True).decode()},
    "ES256": {"private_key": EC.as_pem(private=True).decode()},
    "HS256": {"client_secret": SHARED},
}
PUBLIC: dict[str, Any] = {
    "RS256": RSAKey.import_key(RSA.as_pem(private=False)),
    "PS256": RSAKey.import_key(RSA.as_pem(private=False)),
    "ES256": ECKey.import_key(EC.as_pem(private=False)),
    "HS256": OctKey.import_key(SHARED),
}


def context(secrets, username="svc@portal", **changes):
    recipe = {"version": 1, "token_url": TOKEN_URL, **changes}
    return FakeContext(
        site=make_site(connector="oauth2", recipe=recipe),
        credentials=make_credentials(username, **secrets),
        handler=lambda _request: httpx.Response(200, json={"access_token": "at-1"}),
    )


async def sent(run):
    await OAuth2Connector().login(run)
    return {k: v[0] for k, v in parse_qs(run.requests[0].content.decode()).items()}


@pytest.mark.parametrize("alg", KEYS)
async def test_the_bearer_assertion_verifies_with_the_public_half(alg):
    run = context(KEYS[alg], grant="jwt_bearer", assertion={"alg": alg})

    form = await sent(run)

    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    token = jwt.decode(form["assertion"], PUBLIC[alg], algorithms=[alg])
    assert token.header == {"typ": "JWT", "alg": alg}
    assert token.claims["iss"] == token.claims["sub"] == "svc@portal"
    assert token.claims["aud"] == TOKEN_URL
    assert token.claims["exp"] - token.claims["iat"] == 120
    assert len(token.claims["jti"]) >= 30
    assert run.events[0] == "secret"


async def test_claims_are_the_recipes():
    plan = {
        "alg": "HS256",
        "key_id": "k-1",
        "issuer": "https://me.example",
        "subject": "",
        "audience": "https://portal.example/",
        "lifetime_s": 60,
        "claims": {"tenant": "${site}", "levels": [1, "${username}"]},
    }

    form = await sent(context(KEYS["HS256"], grant="jwt_bearer", assertion=plan))

    token = jwt.decode(form["assertion"], PUBLIC["HS256"])
    assert token.header["kid"] == "k-1"
    assert token.claims["iss"] == "https://me.example"
    assert "sub" not in token.claims
    assert token.claims["aud"] == "https://portal.example/"
    assert token.claims["exp"] - token.claims["iat"] == 60
    assert token.claims["tenant"] == "court_zxfw"
    assert token.claims["levels"] == [1, "svc@portal"]


async def test_every_assertion_has_a_jti_of_its_own():
    seen = set()
    for _ in range(3):
        form = await sent(context(KEYS["HS256"], grant="jwt_bearer", assertion={"alg": "HS256"}))
        seen.add(jwt.decode(form["assertion"], PUBLIC["HS256"]).claims["jti"])

    assert len(seen) == 3


@pytest.mark.parametrize(
    ("client_auth", "alg"), [("private_key_jwt", "ES256"), ("client_secret_jwt", "HS256")]
)
async def test_a_client_assertion_satisfies_a_servers_own_check(client_auth, alg):
    run = context(
        KEYS[alg],
        grant="client_credentials",
        client_auth=client_auth,
        assertion={"alg": alg},
    )

    form = await sent(run)

    server = _ClientAssertionServer()
    assert form["client_assertion_type"] == server.CLIENT_ASSERTION_TYPE
    assert form["client_id"] == "svc@portal"
    assert "client_secret" not in form
    assert "Authorization" not in run.requests[0].headers
    server.process_assertion_claims(form["client_assertion"], PUBLIC[alg])


async def test_private_key_jwt_signs_with_rs256_unless_told():
    run = context(KEYS["RS256"], grant="client_credentials", client_auth="private_key_jwt")

    form = await sent(run)

    token = jwt.decode(form["client_assertion"], PUBLIC["RS256"], algorithms=["RS256"])
    assert token.claims["exp"] - token.claims["iat"] == 120


async def test_a_key_copied_out_of_json_is_read():
    pem = KEYS["RS256"]["private_key"].replace("\n", "\\n")

    form = await sent(context({"private_key": pem}, grant="jwt_bearer", assertion={"alg": "RS256"}))

    jwt.decode(form["assertion"], PUBLIC["RS256"], algorithms=["RS256"])


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("RS256", "not a key s3cret"),
        ("ES256", KEYS["RS256"]["private_key"]),
        ("RS256", KEYS["ES256"]["private_key"]),
        ("ES384", KEYS["ES256"]["private_key"]),
        ("RS256", RSA.as_pem(private=False).decode()),
    ],
    # Without the keys, which differ in every parallel runner.
    ids=["no key", "RSA for ES256", "EC for RS256", "P-256 for ES384", "public"],
)
async def test_a_wrong_key_is_named_without_being_shown_and_nothing_is_sent(alg, key):
    run = context({"private_key": key}, grant="jwt_bearer", assertion={"alg": alg})

    with pytest.raises(RecipeError, match=f"private_key is no key for {alg}") as caught:
        await OAuth2Connector().login(run)
    assert run.requests == []
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class _ClientAssertionServer(JWTBearerClientAssertion):
    """Authlib's server side of RFC 7523 section 2.2."""

    def get_audiences(self):
        return [TOKEN_URL]

    def validate_jti(self, claims, jti):
        return bool(jti)
