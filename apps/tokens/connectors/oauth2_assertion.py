"""JWTs that stand for an account or for a client (RFC 7523), signed with an account's key."""

import warnings
from collections.abc import Mapping
from typing import Any, Final

from authlib.oauth2.rfc7523.assertion import sign_jwt_bearer_assertion
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from apps.tokens.errors import RecipeError

CLIENT_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""


def sign_assertion(
    secret: str,
    *,
    secret_name: str,
    alg: str,
    issuer: str,
    subject: str,
    audience: str,
    lifetime_s: int,
    key_id: str = "",
    claims: Mapping[str, Any] | None = None,
    step: str,
) -> str:
    """Return a signed JWT with a `jti` of its own that is valid from now for `lifetime_s`.

    `secret` is a PEM or JWK for RS, PS and ES algorithms, the shared secret for HS. Raises
    RecipeError, which never repeats the key.
    """
    header = {"typ": "JWT", **({"kid": key_id} if key_id else {})}
    try:
        return str(
            sign_jwt_bearer_assertion(
                _key(secret, alg),
                issuer,
                audience,
                subject or None,
                claims=dict(claims or {}),
                header=header,
                alg=alg,
                expires_in=lifetime_s,
            )
        )
    except (JoseError, ValueError, TypeError):
        # Not chained: a parser's message may repeat a piece of the key.
        raise RecipeError(f"The account's {secret_name} is no key for {alg}.", step=step) from None


def _key(secret: str, alg: str) -> Key:
    if alg.startswith("HS"):
        with warnings.catch_warnings():
            # joserfc warns of short secrets; the site chose its length.
            warnings.simplefilter("ignore")
            return OctKey.import_key(secret)
    # Keys copied out of a JSON file have their line ends written as two characters.
    pem = secret.replace("\\n", "\n").strip()
    return (ECKey if alg.startswith("ES") else RSAKey).import_key(pem)
