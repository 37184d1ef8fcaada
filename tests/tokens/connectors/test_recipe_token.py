"""What a token is made of, and when it expires."""

import base64
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from apps.tokens.connectors import expiry, runner
from apps.tokens.contracts import Cookie
from apps.tokens.errors import UnexpectedPage
from tests.tokens.connectors.loopback import answer, loopback
from tests.tokens.connectors.recipes import login, one_step

NOW = 1_700_000_000
START = datetime.fromtimestamp(NOW, tz=UTC)
TOKEN = 'token: {bearer: "${token}"}'


def said(value="t0", cookies=()):
    return httpx.Response(
        200, json={"token": value}, headers=[("Set-Cookie", cookie) for cookie in cookies]
    )


def with_token(token, rest=""):
    return one_step("").replace(TOKEN, f"token: {token}\n{rest}")


async def test_headers_and_storage():
    origin = "https://portal.example"
    text = with_token(
        "{headers: {X-Auth: '${token}'}, "
        f"local_storage: {{'{origin}': "
        "{jwt: '${token}', user: {json: {n: '${username}'}}}}, "
        f"session_storage: {{'{origin}': {{tab: {{md5: '${{token}}'}}}}}}}}"
    )
    grant, _context = await login(text, [said()])
    assert grant.material.headers == {"X-Auth": "t0"}
    assert grant.material.local_storage == {origin: {"jwt": "t0", "user": '{"n":"alice"}'}}
    assert len(grant.material.session_storage[origin]["tab"]) == 32


async def test_all_cookies_with_their_attributes():
    cookies = (
        "sid=abc; Path=/app; Secure; HttpOnly; SameSite=lax; Domain=portal.example",
        "seen=1; Max-Age=600",
    )
    grant, _context = await login(with_token("{cookies: all}"), [said(cookies=cookies)])
    found = {cookie.name: cookie for cookie in grant.material.cookies}
    assert found["sid"] == Cookie(
        name="sid", value="abc", domain=".portal.example", path="/app", secure=True,
        http_only=True, same_site="Lax",
    )  # fmt: skip
    assert found["seen"].domain == "portal.example"
    assert found["seen"].expires > datetime.now(tz=UTC)


async def test_cookies_by_name():
    grant, _context = await login(
        with_token("{cookies: [sid]}"), [said(cookies=("sid=1", "seen=1"))]
    )
    assert [cookie.name for cookie in grant.material.cookies] == ["sid"]


async def test_cookies_of_a_host_without_a_dot_keep_its_name():
    headers = {"Set-Cookie": "sid=1"}
    async with loopback({"/login": answer(b"{}", headers=headers)}) as server:
        text = with_token("{cookies: all}").replace(
            "https://portal.example", f"http://localhost:{server.port}"
        )
        grant, _context = await login(text, None)
    assert [cookie.domain for cookie in grant.material.cookies] == ["localhost"]


@pytest.mark.parametrize(
    ("token", "missing"),
    [
        ("{cookies: all}", "any cookie"),
        ("{cookies: [sid]}", "sid"),
        ("{bearer: '${token}'}", "bearer is empty"),
        ("{headers: {X-Auth: '${token}'}}", "X-Auth is empty"),
        ("{local_storage: {'https://a': {k: '${token}'}}}", "local_storage.k is empty"),
    ],
)
async def test_a_login_that_gives_nothing_is_no_login(token, missing):
    with pytest.raises(UnexpectedPage, match=missing):
        await login(with_token(token), [said(value="")])


def jwt(claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.sig"


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("{seconds: '${token}'}", 3600, START + timedelta(hours=1)),
        ("{seconds: '${token}'}", "90.5", START + timedelta(seconds=90.5)),
        ("{seconds: '${token}'}", 1e300, START + expiry.LONGEST),
        ("{seconds: '${token}'}", -60, START - timedelta(minutes=1)),
        ("{ttl_s: 60}", "t", START + timedelta(minutes=1)),
        ("{iso: '${token}'}", "2023-11-15T00:00:00Z", datetime(2023, 11, 15, tzinfo=UTC)),
        ("{iso: '${token}'}", "2023-11-15 08:00:00+08:00", datetime(2023, 11, 15, tzinfo=UTC)),
        ("{iso: '${token}'}", "2023-11-15 00:00:00", datetime(2023, 11, 15, tzinfo=UTC)),
        ("{iso: '${token}', timezone: Asia/Shanghai}", "2023-11-15 08:00:00",
         datetime(2023, 11, 15, tzinfo=UTC)),
        ("{epoch: '${token}'}", NOW + 5, START + timedelta(seconds=5)),
        ("{epoch: '${token}'}", (NOW + 5) * 1000, START + timedelta(seconds=5)),
        ("{jwt: '${token}'}", jwt({"exp": NOW + 5}), START + timedelta(seconds=5)),
        ("{jwt: '${token}'}", jwt({"sub": "alice"}), None),
        ("{idle_ttl_s: 1800}", "t", None),
    ],
)  # fmt: skip
async def test_expiries(monkeypatch, rule, value, expected):
    monkeypatch.setattr(runner.time, "time", lambda: NOW)
    grant, _context = await login(one_step("") + f"expiry: {rule}\n", [said(value)])
    assert grant.expires_at == expected


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("{seconds: '${token}'}", "soon"),
        ("{seconds: '${token}'}", "nan"),
        ("{iso: '${token}'}", "tomorrow"),
        ("{epoch: '${token}'}", "1e300"),
        ("{jwt: '${token}'}", "no-jwt"),
        ("{jwt: '${token}'}", "a.b.c"),
        ("{jwt: '${token}'}", jwt({"exp": "s3cret"})),
        ("{jwt: '${token}'}", jwt(["exp"])),
        ("{cookie: sid}", "t0-unused"),
    ],
)
async def test_an_expiry_that_cannot_be_read_is_an_unexpected_page(rule, value):
    with pytest.raises(UnexpectedPage) as caught:
        await login(one_step("") + f"expiry: {rule}\n", [said(value)])
    assert str(value) not in caught.value.message
    assert caught.value.step == "expiry"


async def test_an_expiry_the_site_leaves_out_is_the_sites_default():
    text = one_step("").replace("{token: {", "{ttl: {jmespath: ttl, default: ''}, token: {")
    grant, _context = await login(text + "expiry: {seconds: '${ttl}'}\n", [said()])
    assert grant.expires_at is None


async def test_a_cookie_tells_when_it_expires():
    cookies = ("sid=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT", "seen=1")
    rule = "expiry: {cookie: %s, idle_ttl_s: 900}\n"
    grant, _context = await login(one_step("") + rule % "sid", [said(cookies=cookies)])
    assert grant.expires_at < datetime(2100, 1, 1, tzinfo=UTC)  # at most ten years
    assert grant.idle_ttl_s == 900
    grant, _context = await login(one_step("") + rule % "seen", [said(cookies=cookies)])
    assert grant.expires_at is None


async def test_refresh_tokens():
    text = one_step("").replace("{token: {", "{r: {jmespath: r, default: ''}, token: {")
    text += "refresh_token: ${r}\nrefresh_expiry: {ttl_s: 60}\n"
    grant, _context = await login(text, [httpx.Response(200, json={"token": "t", "r": "r1"})])
    assert grant.refresh_token == "r1"
    assert grant.refresh_expires_at is not None
    grant, _context = await login(text, [said()])
    assert grant.refresh_token is None
    assert "r1" not in repr(grant)
