"""A login by recipe: what is sent, in which order, and what is read from the answers."""

import httpx
import pytest

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.connectors.runner import redacted
from apps.tokens.errors import LeaseLost, RecipeError, UnexpectedPage
from tests.tokens.connectors.fakes import make_credentials
from tests.tokens.connectors.loopback import answer, loopback
from tests.tokens.connectors.recipes import LOGIN, context_for, login, one_step

PAGE = httpx.Response(200, html='<form><input name="_xsrf" value="x-1"></form>')
LONG_TOKEN = "eyJh" + "x" * 808


def token(value=LONG_TOKEN):
    return httpx.Response(200, json={"data": {"access_token": value}, "token": value})


async def test_what_one_step_captures_the_next_one_sends():
    grant, context = await login(LOGIN, [PAGE, token()])
    assert context.requests[1].content == b"user=alice&pass=s3cret-Passw0rd&_xsrf=x-1"
    assert grant.material.bearer == LONG_TOKEN
    assert grant.material.user_agent == context.site.user_agent


async def test_the_secret_is_marked_before_the_first_request_that_carries_it():
    _grant, context = await login(LOGIN, [PAGE, token()])
    assert context.events == ["lease", "sent GET /login", "secret", "lease", "sent POST /login"]


@pytest.mark.parametrize(
    "extra",
    [
        "let: {p: {md5: '${password}'}, q: {upper: '${p}'}}\n    query: {p: '${q}'}",
        "headers: {X-P: '${salted}'}",
        "body: '${password}'",
        "query: {c: '${totp}'}",
    ],
)
async def test_what_is_made_of_a_secret_counts_as_the_secret(extra):
    text = one_step(extra).replace('json: {user: "${username}", pass: "${password}"}', "")
    text += "variables: {salted: {sha256: 'salt ${password}'}}\n"
    _grant, context = await login(text, [token()], codes=["123456"])
    assert "secret" in context.events


async def test_a_captured_value_is_no_secret_even_after_the_password_was_sent():
    text = one_step("").replace("json:", "form:").replace("${password}", "${username}")
    _grant, context = await login(text, [token()])
    assert "secret" not in context.events


async def test_the_trace_is_safe_to_print():
    text = LOGIN.replace(
        "url: ${base}/login\n    form", "url: ${base}/${xsrf}?p=${password}\n    form"
    )
    _grant, context = await login(text, [PAGE, token()])
    first, second = context.traces
    assert first.url == "https://portal.example/login"
    assert first.captured == {"xsrf": "***"}
    assert second.url == "https://portal.example/…"
    assert second.captured == {"token": "eyJh… (812 characters)"}
    assert (second.step, second.method, second.status, second.verdict) == (
        "login",
        "POST",
        200,
        "ok",
    )
    assert "s3cret" not in repr(context.traces)


def test_short_values_are_not_shown_at_all():
    assert (redacted("abc"), redacted(123456)) == ("***", "***")


async def test_a_missing_capture_is_an_unexpected_page_that_names_it():
    with pytest.raises(UnexpectedPage, match="'xsrf' is not in the answer") as caught:
        await login(LOGIN, [httpx.Response(200, html="<p>maintenance")])
    assert caught.value.step == "page"


async def test_a_secret_the_account_lacks_is_found_before_anything_is_sent():
    text = LOGIN.replace("_xsrf: ", "key: '${client_secret}', _xsrf: ")
    context = context_for(text, [PAGE, token()])
    with pytest.raises(RecipeError, match=r"Step 'login': variable 'client_secret' is not known"):
        await HttpRecipeConnector().login(context)
    assert context.events == []


async def test_a_value_from_a_page_is_never_read_as_a_template():
    page = httpx.Response(200, html='<input name=_xsrf value="${password}">')
    _grant, context = await login(LOGIN, [page, token()])
    assert context.requests[1].content.endswith(b"_xsrf=%24%7Bpassword%7D")


async def test_a_lost_lease_stops_before_the_next_step():
    context = context_for(LOGIN, [PAGE, token()], leases=1)
    with pytest.raises(LeaseLost):
        await HttpRecipeConnector().login(context)
    assert len(context.requests) == 1


async def test_the_one_time_code_is_asked_for_once():
    text = one_step("query: {a: '${totp}', b: '${totp}'}")
    _grant, context = await login(text, [token()], codes=["123456"])
    assert context.events.count("code") == 1
    assert context.requests[0].url.query == b"a=123456&b=123456"


async def test_json_bodies_keep_types_and_queries_are_merged():
    text = LOGIN.replace('css: "input[name=_xsrf]::attr(value)"', "jmespath: id")
    text = text.replace("form: {user", "query: {c: 2}\n    json: {user")
    text = text.replace("url: ${base}/login\n    query", "url: ${base}/login?a=1\n    query")
    _grant, context = await login(text, [httpx.Response(200, json={"id": [7, True]}), token()])
    assert context.requests[1].content.endswith(b'"_xsrf":[7,true]}')
    assert str(context.requests[1].url) == "https://portal.example/login?a=1&c=2"


@pytest.mark.parametrize(
    ("capture", "found"),
    [
        ("{jmespath: 'data.access_token'}", "from-json"),
        ("{header: X-Token}", "from-header"),
        ("{header: Location, regex: 'code=([^&]+)'}", "c0de"),
        ("{cookie: sid}", "from-cookie"),
        ('{regex: \'"access_token": ?"([^"]+)"\'}', "from-json"),
        ("{regex: from.json}", "from-json"),
        ("{jmespath: nothing, default: fallback}", "fallback"),
        ("{css: 'p.none::text', default: fallback}", "fallback"),
        ("{jmespath: 'sum(data)', default: fallback}", "fallback"),
    ],
)
async def test_every_source_of_a_capture(capture, found):
    headers = {
        "X-Token": "from-header",
        "Location": "https://portal.example/cb?code=c0de&state=1",
        "Set-Cookie": "sid=from-cookie; Path=/",
    }
    said = httpx.Response(302, json={"data": {"access_token": "from-json"}}, headers=headers)
    grant, _context = await login(
        one_step("").replace("{jmespath: token, default: none}", capture), [said]
    )
    assert grant.material.bearer == found


async def test_xpath_and_css_read_pages():
    text = LOGIN.replace('css: "input[name=_xsrf]::attr(value)"', "xpath: '//input/@value'")
    _grant, context = await login(text, [PAGE, token()])
    assert context.requests[1].content.endswith(b"_xsrf=x-1")


META = '<meta http-equiv="Content-Type" content="text/html; charset=%s">'


@pytest.mark.parametrize(
    ("content_type", "meta", "encoding", "codec"),
    [
        ("text/html; charset=GBK", "", "", "gbk"),
        ("text/html; charset=gb2312", "", "", "gb18030"),
        ("text/html", META % "gb2312", "", "gb18030"),
        ("text/html", META % "GBK", "", "gbk"),
        ("text/html", META % "gb18030", "", "gb18030"),
        ("text/html; charset=utf-8", "", "gb2312", "gb18030"),
        ("text/html", "", "", "gb18030"),
        ("text/html", "", "", "utf-8"),
        ("text/html; charset=big5", "", "", "big5"),
    ],
)
async def test_chinese_pages_are_read_however_they_declare_their_charset(
    content_type, meta, encoding, codec
):
    word = "登錄" if codec == "big5" else "登录镕"  # 镕 is not in GB2312
    page = f"<html><head>{meta}</head><b>{word}</b></html>".encode(codec)
    text = one_step(f"encoding: {encoding}" if encoding else "")
    text = text.replace("{jmespath: token, default: none}", "{css: 'b::text'}")
    answers = {"/login": answer(page, headers={"Content-Type": content_type})}
    async with loopback(answers) as server:
        text = text.replace("https://portal.example", server.base)
        grant, _context = await login(text, None)
    assert grant.material.bearer == word


async def test_json_in_gb18030_is_read():
    body = '{"token": "令牌"}'.encode("gb18030")
    said = httpx.Response(200, content=body, headers={"content-type": "application/json"})
    grant, _context = await login(one_step("encoding: gb18030"), [said])
    assert grant.material.bearer == "令牌"


async def test_redirects_are_followed_only_where_the_step_says():
    moved = httpx.Response(302, headers={"Location": "/home"})
    _grant, context = await login(one_step(""), [moved])
    assert len(context.requests) == 1
    _grant, context = await login(one_step("follow_redirects: true"), [moved, token()])
    assert [request.url.path for request in context.requests] == ["/login", "/home"]


async def test_a_step_may_have_a_time_out_of_its_own():
    _grant, context = await login(one_step("timeout_s: 7"), [token()])
    assert context.requests[0].extensions["timeout"]["read"] == 7


@pytest.mark.parametrize(
    "extra",
    ["headers: {X-A: '密'}", 'headers: {X-A: "a\\nb"}', "query: {a: '${deep.gone}'}",
     "let: {p: {unhex: '${password}'}}", "url: 'http://portal.example:${username}/'"],
)  # fmt: skip
async def test_what_cannot_be_sent_names_the_step_and_no_value(extra):
    text = one_step(extra) + "variables: {deep: a}\n"
    if "url:" in extra:
        text = text.replace("    url: https://portal.example/login\n", "", 1)
    context = context_for(text, [token()])
    with pytest.raises(RecipeError, match="login") as caught:
        await HttpRecipeConnector().login(context)
    assert context.requests == []
    assert "s3cret" not in caught.value.message


async def test_an_expression_that_takes_too_long_is_stopped():
    text = one_step("").replace("{jmespath: token, default: none}", "{regex: '(?:a|a?)+[0-9]'}")
    with pytest.raises(RecipeError, match="takes too long"):
        await login(text, [httpx.Response(200, text="a" * 5000 + "!")])


async def test_verify_runs_with_the_token_and_the_cookies():
    text = one_step("") + (
        "verify: {url: 'https://portal.example/me', "
        "headers: {Authorization: 'Bearer ${token.bearer}'}}\n"
    )
    said = httpx.Response(200, json={"token": "t0"}, headers={"Set-Cookie": "sid=1"})
    _grant, context = await login(text, [said, httpx.Response(200)])
    assert context.requests[1].headers["authorization"] == "Bearer t0"
    assert context.requests[1].headers["cookie"] == "sid=1"
    assert context.stages == ["logging_in", "verifying"]


async def test_a_verify_that_is_sent_to_the_login_page_is_no_success():
    text = one_step("") + "verify: {url: 'https://portal.example/me'}\n"
    moved = httpx.Response(302, headers={"Location": "/login"})
    with pytest.raises(UnexpectedPage) as caught:
        await login(text, [token(), moved])
    assert caught.value.step == "verify"


def test_secret_names_are_what_the_recipe_sends():
    text = (
        one_step(
            "let: {s: {hmac_sha256: {key: '${client_secret}', text: '${username}'}}}\n"
            "    query: {t: '${totp}', s: '${s}', k: '${private_key}'}"
        )
        + "variables: {private_key: public}\n"
    )
    site = context_for(text, []).site
    assert HttpRecipeConnector().secret_names(site) == {"password", "client_secret", "totp_secret"}


async def test_what_the_recipe_defines_goes_before_a_secret_of_the_same_name():
    text = one_step("query: {id: '${client_id}'}") + "variables: {client_id: mine}\n"
    credentials = make_credentials(client_id="theirs")
    _grant, context = await login(text, [token()], credentials=credentials)
    assert context.requests[0].url.query == b"id=mine"
