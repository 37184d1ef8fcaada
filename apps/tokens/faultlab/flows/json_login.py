"""`POST /{site}/api/login`: JSON in, JSON out."""

import math
from typing import Any

import orjson

from apps.tokens.faultlab.http import JSON, BadRequest, Exchange, Headers, read_json
from apps.tokens.faultlab.judge import Outcome, Presented
from apps.tokens.faultlab.logins import Answer, Verdict
from apps.tokens.faultlab.sessions import Session
from apps.tokens.faultlab.sites import Site

# outcome → status, the `error` a recipe can match, and a sentence for people
REFUSALS = {
    Outcome.WRONG_PASSWORD: (401, "invalid_credentials", "Wrong username or password."),
    Outcome.LOCKED: (423, "account_locked", "This account is locked."),
    Outcome.CODE_REQUIRED: (401, "code_required", "A one-time code is needed."),
    Outcome.CODE_REJECTED: (401, "code_rejected", "The one-time code is wrong or used."),
    Outcome.CAPTCHA_REJECTED: (400, "captcha_rejected", "Read the picture and try again."),
    Outcome.CSRF_REJECTED: (403, "csrf_rejected", "The form is not ours or too old."),
    Outcome.RATE_LIMITED: (429, "too_many_requests", "Too many requests."),
    Outcome.UNAVAILABLE: (503, "unavailable", "The site is not available."),
}


def retry_after(verdict: Verdict) -> Headers:
    """Return the Retry-After header of a verdict, rounded up to whole seconds."""
    if verdict.retry_after_s is None or not math.isfinite(verdict.retry_after_s):
        return ()
    return ((b"retry-after", b"%d" % math.ceil(verdict.retry_after_s)),)


def token_answer(session: Session) -> dict[str, Any]:
    """Return the members of RFC 6749, 5.1 for a session."""
    answer: dict[str, Any] = {"access_token": session.token, "token_type": "Bearer"}
    if session.promised_s is not None:
        promised_s = session.promised_s
        answer["expires_in"] = int(promised_s) if promised_s.is_integer() else promised_s
    if session.refresh_token:
        answer["refresh_token"] = session.refresh_token
    return answer


def text(form: dict[str, Any], name: str, *, needed: bool = False) -> str:
    """Return a member that must be a text. Raises BadRequest."""
    value = form.get(name, "")
    if not isinstance(value, str) or (needed and not value):
        raise BadRequest(f"{name} must be a text.")
    return value


class JsonFace:
    """Reads `{username, password, otp?, captcha?, captcha_id?}`."""

    name = "json"

    def read(self, site: Site, exchange: Exchange, body: bytes) -> Presented:
        form = read_json(body)
        if not isinstance(form, dict):
            raise BadRequest("The body must be a JSON object.")
        return Presented(
            account=text(form, "username", needed=True),
            secret=text(form, "password"),
            code=text(form, "otp"),
            captcha_id=text(form, "captcha_id") or exchange.cookie("lab_captcha"),
            captcha=text(form, "captcha"),
        )

    def word(self, site: Site, verdict: Verdict) -> Answer:
        if verdict.session is not None:
            return Answer(200, orjson.dumps(token_answer(verdict.session)), JSON)
        status, error, message = REFUSALS[verdict.outcome]
        if verdict.outcome is Outcome.UNAVAILABLE:
            status = verdict.status
        body = orjson.dumps({"error": error, "message": message})
        return Answer(status, body, JSON, retry_after(verdict))
