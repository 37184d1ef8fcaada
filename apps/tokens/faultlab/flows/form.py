"""`GET` and `POST /{site}/login`: an HTML form with a CSRF token and a session cookie."""

import hashlib
import hmac
import html
import os
import secrets
from typing import Final
from urllib.parse import parse_qsl

from apps.tokens.faultlab.flows.json_login import retry_after
from apps.tokens.faultlab.http import BadRequest, Exchange
from apps.tokens.faultlab.judge import Outcome, Presented
from apps.tokens.faultlab.logins import Answer, Verdict
from apps.tokens.faultlab.sites import Site

SESSION_COOKIE: Final = "lab_session"
CSRF_COOKIE: Final = "lab_csrf"
_CSRF_KEY: Final = os.urandom(32)

ENGLISH: Final = {
    "title": "Log in",
    Outcome.WRONG_PASSWORD: "Wrong username or password.",
    Outcome.LOCKED: "This account is locked.",
    Outcome.CODE_REQUIRED: "A one-time code is needed.",
    Outcome.CODE_REJECTED: "The one-time code is wrong or used.",
    Outcome.CAPTCHA_REJECTED: "The characters in the picture were not right.",
    Outcome.CSRF_REJECTED: "The form is not ours or too old.",
    Outcome.RATE_LIMITED: "Too many requests.",
    Outcome.UNAVAILABLE: "The site is not available.",
}
CHINESE: Final = {
    "title": "用户登录",
    Outcome.WRONG_PASSWORD: "用户名或密码错误",
    Outcome.LOCKED: "账号已锁定",
    Outcome.CODE_REQUIRED: "请输入动态口令",
    Outcome.CODE_REJECTED: "动态口令错误或已使用",
    Outcome.CAPTCHA_REJECTED: "验证码错误",
    Outcome.CSRF_REJECTED: "页面已过期",
    Outcome.RATE_LIMITED: "请求过于频繁",
    Outcome.UNAVAILABLE: "系统维护中",
}


def texts(encoding: str) -> dict[str, str]:
    """Return the texts of the page: Chinese where its encoding is a Chinese one."""
    return CHINESE if encoding.startswith(("gb", "big5", "hz")) else ENGLISH


class FormFace:
    """Reads the posted form; success is a redirect, most refusals are a page with status 200."""

    name = "form"

    def read(self, site: Site, exchange: Exchange, body: bytes) -> Presented:
        form = _parse(body, site.behaviour.encoding)
        account = form.get("username", "")
        if not account:
            raise BadRequest("The username is missing.")
        return Presented(
            account=account,
            secret=form.get("password", ""),
            code=form.get("otp", ""),
            captcha_id=exchange.cookie("lab_captcha"),
            captcha=form.get("captcha", ""),
            csrf_ok=hmac.compare_digest(
                form.get("csrf_token", "").encode(), _csrf(exchange.cookie(CSRF_COOKIE)).encode()
            ),
        )

    def word(self, site: Site, verdict: Verdict) -> Answer:
        session = verdict.session
        if session is not None:
            cookie = f"{SESSION_COOKIE}={session.token}; Path=/{site.name}; HttpOnly; SameSite=Lax"
            if session.promised_s is not None:
                cookie += f"; Max-Age={int(session.promised_s)}"
            location = (b"location", f"/{site.name}/home".encode())
            return Answer(302, b"", b"text/html", (location, (b"set-cookie", cookie.encode())))
        status = {Outcome.CSRF_REJECTED: 403, Outcome.RATE_LIMITED: 429}.get(verdict.outcome, 200)
        if verdict.outcome is Outcome.UNAVAILABLE:
            status = verdict.status
        return page(site, verdict, status)


async def show(site: Site, exchange: Exchange) -> None:
    """Serve the empty form."""
    answer = page(site, None, 503 if site.behaviour.down else 200)
    await exchange.answer(answer.status, answer.body, answer.content_type, answer.extra)


def page(site: Site, verdict: Verdict | None, status: int) -> Answer:
    """Return the form, with the error of a verdict, and a fresh CSRF token.

    An encoding other than UTF-8 is declared in the page only, as old portals do.
    """
    behaviour = site.behaviour
    words = texts(behaviour.encoding)
    error = ""
    if verdict is not None:
        error = f'<p class="error">{html.escape(words[verdict.outcome])}</p>'
    cookie = secrets.token_urlsafe(16)
    fields = [("username", "text"), ("password", "password")]
    fields += [("otp", "text")] if behaviour.totp_required else []
    fields += [("captcha", "text")] if behaviour.captcha_required else []
    inputs = "".join(f'<p><label>{n} <input name="{n}" type="{t}"></label>' for n, t in fields)
    picture = f'<img src="/{site.name}/captcha" alt="">' if behaviour.captcha_required else ""
    text = (
        f'<!doctype html><html><head><meta charset="{behaviour.encoding}">'
        f"<title>{words['title']}</title></head><body><h1>{words['title']}</h1>{error}"
        f'<form method="post" action="/{site.name}/login">'
        f'<input type="hidden" name="csrf_token" value="{_csrf(cookie)}">'
        f"{inputs}{picture}<p><button>{words['title']}</button></form></body></html>"
    )
    extra = [(b"set-cookie", f"{CSRF_COOKIE}={cookie}; Path=/{site.name}; HttpOnly".encode())]
    extra += retry_after(verdict) if verdict is not None else ()
    declared = b"; charset=utf-8" if behaviour.encoding == "utf-8" else b""
    return Answer(
        status, text.encode(behaviour.encoding, "replace"), b"text/html" + declared, tuple(extra)
    )


def _csrf(cookie: str) -> str:
    """Return the hidden field that belongs to a cookie; never an empty text."""
    return hashlib.blake2b(cookie.encode(), key=_CSRF_KEY, digest_size=16).hexdigest()


def _parse(body: bytes, encoding: str) -> dict[str, str]:
    text = body.decode("latin-1")
    # Browsers post in the page's encoding, most clients in UTF-8, which rarely passes by accident.
    for candidate in ("utf-8", encoding):
        try:
            return dict(parse_qsl(text, True, encoding=candidate, errors="strict"))
        except UnicodeDecodeError:
            continue
    raise BadRequest(f"The form is neither in UTF-8 nor in {encoding}.")
