"""The access tokens of a site, and what it says about how long they live."""

import base64
import hashlib
import hmac
import os
import secrets
import time
from typing import Final

import orjson

from apps.tokens.faultlab.behaviour import Behaviour

_JWT_KEY: Final = os.urandom(32)
_JWT_HEADER: Final = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"


def promised_s(behaviour: Behaviour) -> float | None:
    """Return the lifetime a site declares, None if it does not say."""
    if behaviour.expires_in == "absent":
        return None
    if isinstance(behaviour.expires_in, float):
        return behaviour.expires_in
    return behaviour.session_ttl_s


def new_token(behaviour: Behaviour, account: str) -> str:
    """Return a new access token, opaque or a JWT signed with HS256 (RFC 7519)."""
    if behaviour.token_shape != "jwt":  # noqa: S105
        return "t-" + secrets.token_urlsafe(24)
    issued = int(time.time())
    claims: dict[str, str | int] = {"sub": account, "iat": issued, "jti": secrets.token_hex(8)}
    lives_s = promised_s(behaviour)
    if lives_s is not None:
        claims["exp"] = issued + int(lives_s)
    signed = _JWT_HEADER + b"." + _base64url(orjson.dumps(claims))
    signature = hmac.digest(_JWT_KEY, signed, hashlib.sha256)
    return (signed + b"." + _base64url(signature)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
