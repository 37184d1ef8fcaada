"""`POST /{site}/oauth/token`: client_credentials, password and refresh_token (RFC 6749)."""

import base64
import binascii
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

import orjson

from apps.tokens.faultlab import logins
from apps.tokens.faultlab.flows.json_login import REFUSALS, retry_after, token_answer
from apps.tokens.faultlab.http import JSON, BadRequest, Exchange
from apps.tokens.faultlab.judge import Outcome, Presented
from apps.tokens.faultlab.logins import Answer, Verdict
from apps.tokens.faultlab.sites import Site

LOGIN_GRANTS: Final = ("client_credentials", "password")


class OAuth2Face:
    """Reads a token request; the account is the client, or the user with grant `password`.

    With grant `password` the client is not checked.
    """

    name = "oauth2"

    def __init__(self, form: dict[str, str]) -> None:
        self._form = form

    def read(self, site: Site, exchange: Exchange, body: bytes) -> Presented:
        form = self._form
        by_client = form.get("grant_type") == "client_credentials"
        if by_client:
            account, secret = _client(exchange, form)
        else:
            account, secret = form.get("username", ""), form.get("password", "")
        if not account:
            raise BadRequest("The client or the username is missing.")
        return Presented(
            account=account,
            secret=secret,
            code=form.get("otp", ""),
            captcha_id=form.get("captcha_id", ""),
            captcha=form.get("captcha", ""),
            gives_refresh=not by_client,
        )

    def word(self, site: Site, verdict: Verdict) -> Answer:
        if verdict.session is not None:
            return Answer(200, orjson.dumps(token_answer(verdict.session)), JSON)
        status, error, message = REFUSALS[verdict.outcome]
        if verdict.outcome is Outcome.UNAVAILABLE:
            status = verdict.status
        elif verdict.outcome is Outcome.WRONG_PASSWORD:
            by_client = self._form.get("grant_type") == "client_credentials"
            status, error = (401, "invalid_client") if by_client else (400, "invalid_grant")
        body = orjson.dumps({"error": error, "error_description": message})
        return Answer(status, body, JSON, retry_after(verdict))


async def token(site: Site, exchange: Exchange) -> None:
    """Serve the token endpoint.

    Only the body tells a login from a refresh, so a login is counted here once its body is in.
    """
    body = await exchange.body()
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    except ValueError as error:
        raise BadRequest("The body must be a form.") from error
    grant = form.get("grant_type", "")
    if grant in LOGIN_GRANTS:
        await logins.serve(site, exchange, OAuth2Face(form), body)
    elif grant == "refresh_token":
        await _refresh(site, exchange, form.get("refresh_token", ""))
    else:
        await exchange.json(400, {"error": "unsupported_grant_type"})


async def _refresh(site: Site, exchange: Exchange, refresh_token: str) -> None:
    """Rotate at once and answer later: a client that goes in between has lost the new token."""
    if site.behaviour.down:
        await exchange.json(503, {"error": "unavailable"})
        return
    done = site.sessions.refresh(site.behaviour, refresh_token)
    if done.replayed:
        site.tally.add("refresh_replays", done.account)
    site.tally.add("refreshes" if done.session else "refreshes_refused", done.account)
    if site.behaviour.refresh_latency_s:
        await exchange.wait(site.behaviour.refresh_latency_s)
    if done.session is None:
        await exchange.json(400, {"error": "invalid_grant"})
    else:
        await exchange.json(200, token_answer(done.session))


def _client(exchange: Exchange, form: dict[str, str]) -> tuple[str, str]:
    """Return id and secret from the header (RFC 6749, 2.3.1) or from the body."""
    scheme, _, encoded = exchange.header(b"authorization").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The Authorization header cannot be read.") from error
    name, _, secret = pair.partition(":")
    return unquote_plus(name), unquote_plus(secret)
