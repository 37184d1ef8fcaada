"""What a site offers besides logging in: the session page, the API, logout, health, pictures."""

from apps.tokens.faultlab.captcha import png
from apps.tokens.faultlab.flows.form import SESSION_COOKIE
from apps.tokens.faultlab.http import HTML, Exchange
from apps.tokens.faultlab.sessions import Session
from apps.tokens.faultlab.sites import Site


def _token(exchange: Exchange) -> str:
    scheme, _, token = exchange.header(b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else exchange.cookie(SESSION_COOKIE)


def _check(site: Site, exchange: Exchange) -> Session | None:
    """Return the living session of a request, and count the check."""
    account, session = site.sessions.check(site.behaviour, _token(exchange))
    site.tally.add("token_checks", account)
    if session is None and not site.behaviour.down:
        site.tally.add("rejected_checks", account)
    return session


async def _closed(exchange: Exchange) -> None:
    await exchange.json(503, {"error": "unavailable"})


async def me(site: Site, exchange: Exchange) -> None:
    """Say whose token this is, or 401."""
    session = _check(site, exchange)
    if site.behaviour.down:
        await _closed(exchange)
    elif session is None:
        await exchange.json(401, {"error": "session_dead"}, [(b"www-authenticate", b"Bearer")])
    else:
        await exchange.json(200, {"account": session.account})


async def home(site: Site, exchange: Exchange) -> None:
    """Show the page behind the login, or send the client back to it."""
    session = _check(site, exchange)
    if site.behaviour.down:
        await _closed(exchange)
    elif session is None:
        await exchange.answer(302, b"", HTML, [(b"location", f"/{site.name}/login".encode())])
    else:
        await exchange.answer(200, b"<!doctype html><title>Home</title><h1>Welcome</h1>", HTML)


async def logout(site: Site, exchange: Exchange) -> None:
    """End the session and its refresh tokens."""
    if site.behaviour.down:
        await _closed(exchange)
        return
    account = site.sessions.logout(_token(exchange))
    site.tally.add("logouts", account)
    await exchange.json(200, {"ended": bool(account)})


async def health(site: Site, exchange: Exchange) -> None:
    """Say whether the site is up, without a login."""
    site.tally.add("health_checks")
    if site.behaviour.down:
        await _closed(exchange)
    else:
        await exchange.json(200, {"status": "ok"})


async def captcha(site: Site, exchange: Exchange) -> None:
    """Serve a new picture of four digits; its id is in a cookie and in `x-captcha-id`."""
    key, digits = site.judge.new_picture()
    cookie = f"lab_captcha={key}; Path=/{site.name}; HttpOnly"
    await exchange.answer(
        200,
        png(digits),
        b"image/png",
        [(b"set-cookie", cookie.encode()), (b"x-captcha-id", key.encode())],
    )
