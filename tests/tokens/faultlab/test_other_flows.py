"""The form, one-time codes, pictures and OAuth2."""

import time

import httpx
import pyotp
import pytest

from apps.tokens.faultlab.behaviour import DEFAULT_TOTP_SECRET
from apps.tokens.faultlab.client import LabClient
from tests.tokens.faultlab.support import GOOD, FormClient, login, me, send

pytest_plugins = ["tests.lab"]


def token(url: str, auth: tuple[str, str] | None = None, **form: str) -> httpx.Response:
    return send("POST", f"{url}/oauth/token", data=form, auth=auth)


def test_the_form_gives_a_session_cookie_and_a_redirect(lab: LabClient) -> None:
    client = FormClient(lab.put("s", session_ttl_s=90))
    answer = client.post()
    assert (answer.status_code, answer.headers["location"]) == (302, "/s/home")
    assert "Max-Age=90" in answer.headers["set-cookie"]
    assert client.http.get(f"{client.url}/home").status_code == 200
    assert client.http.get(f"{client.url}/api/me").json() == {"account": "anna"}


def test_without_a_session_the_home_page_leads_to_the_login(lab: LabClient) -> None:
    answer = send("GET", f"{lab.put('s')}/home")
    assert (answer.status_code, answer.headers["location"]) == (302, "/s/login")
    assert lab.counts("s")["rejected_checks"] == 1


def test_a_refused_form_is_a_page_with_status_200(lab: LabClient) -> None:
    client = FormClient(lab.put("s", lockout_after=1))
    wrong, locked = client.post(password="x"), client.post()
    assert (wrong.status_code, locked.status_code) == (200, 200)
    assert "Wrong username or password." in wrong.text
    assert "This account is locked." in locked.text


def test_a_form_needs_the_field_that_belongs_to_its_cookie(lab: LabClient) -> None:
    first, second = FormClient(lab.put("s")), FormClient(f"{lab.url}/s")
    foreign = second.field()
    assert first.post(csrf_token=foreign).status_code == 403
    assert first.post(csrf_token="").status_code == 403
    empty = send("POST", f"{first.url}/login", data={"username": "a", "password": GOOD})
    assert empty.status_code == 403
    assert lab.counts("s")["logins_succeeded"] == 0


def test_a_gbk_form_declares_its_encoding_in_the_page_only(lab: LabClient) -> None:
    client = FormClient(lab.put("s", encoding="gbk"))
    page = client.page()
    assert page.headers["content-type"] == "text/html"
    assert b'<meta charset="gbk">' in page.content
    assert "用户名或密码错误" in client.post(password="x").content.decode("gbk")


def test_a_gbk_form_reads_what_a_browser_posts(lab: LabClient) -> None:
    accounts = {"张三": {"password": "密码"}}
    client = FormClient(lab.put("s", encoding="gbk", accounts=accounts))
    from urllib.parse import urlencode

    form = {"username": "张三", "password": "密码", "csrf_token": client.field()}
    for encoding in ("gbk", "utf-8"):
        body = urlencode(form, encoding=encoding)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = client.http.post(f"{client.url}/login", content=body, headers=headers)
        assert answer.status_code == 302, encoding


def test_a_one_time_code_works_once(lab: LabClient) -> None:
    url = lab.put("s", totp_required=True)
    assert login(url).json()["error"] == "code_required"
    code = pyotp.TOTP(DEFAULT_TOTP_SECRET).now()
    assert login(url, otp=code).status_code == 200
    assert login(url, otp=code).json()["error"] == "code_rejected"
    assert login(url, "bert", otp=code).status_code == 200, "a code is used up for one account"
    counts = lab.counts("s")
    assert (counts["code_replays"], counts["wrong_codes"], counts["wrong_secrets"]) == (1, 0, 0)


def test_an_older_code_is_refused_after_a_newer_one(lab: LabClient) -> None:
    totp = pyotp.TOTP(DEFAULT_TOTP_SECRET)
    url = lab.put("s", totp_required=True)
    now = time.time()
    assert login(url, otp=totp.at(now)).status_code == 200
    assert login(url, otp=totp.at(now - 30)).status_code == 401


def test_a_code_far_off_is_wrong(lab: LabClient) -> None:
    url = lab.put("s", totp_required=True, accounts={"anna": {"password": GOOD}})
    code = pyotp.TOTP(DEFAULT_TOTP_SECRET).at(time.time() - 300)
    assert login(url, otp=code).json()["error"] == "code_rejected"
    assert lab.counts("s")["wrong_codes"] == 1


def test_a_picture_must_be_read_and_only_once(lab: LabClient) -> None:
    url = lab.put("s", captcha_required=True)
    picture = send("GET", f"{url}/captcha")
    key = picture.headers["x-captcha-id"]
    digits = lab.captchas("s")[key]
    assert picture.headers["content-type"] == "image/png"
    assert login(url).json()["error"] == "captcha_rejected"
    assert login(url, captcha_id=key, captcha=digits).status_code == 200
    assert login(url, captcha_id=key, captcha=digits).status_code == 400


def test_a_client_gets_a_token_and_no_refresh_token(lab: LabClient) -> None:
    url = lab.put("s", accounts={"app": {"password": "key"}})
    for answer in (
        token(url, ("app", "key"), grant_type="client_credentials"),
        token(url, grant_type="client_credentials", client_id="app", client_secret="key"),
    ):
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()
        assert me(url, answer.json()["access_token"]) == 200
    assert lab.counts("s")["logins_succeeded"] == 2


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "client_credentials", "client_id": "a"}, 401, "invalid_client"),
        ({"grant_type": "password", "username": "a", "password": "x"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": "device"}, 400, "unsupported_grant_type"),
        ({"grant_type": "password"}, 400, "malformed"),
    ],
)
def test_oauth_errors_are_those_of_the_standard(lab, form, status, error) -> None:
    answer = token(lab.put("s"), **form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def refresh(url: str, value: str) -> httpx.Response:
    return token(url, grant_type="refresh_token", refresh_token=value)


def test_a_refresh_token_works_once(lab: LabClient) -> None:
    url = lab.put("s")
    old = token(url, grant_type="password", username="anna", password=GOOD).json()
    new = refresh(url, old["refresh_token"]).json()
    assert new["refresh_token"] != old["refresh_token"]
    assert refresh(url, old["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(url, new["refresh_token"]).status_code == 200
    counts = lab.counts("s")["accounts"]["anna"]
    assert (counts["refreshes"], counts["refreshes_refused"], counts["refresh_replays"]) == (
        2,
        1,
        1,
    )
    assert counts["logins_started"] == 1


def test_reuse_may_kill_the_whole_family(lab: LabClient) -> None:
    url = lab.put("s", reuse_kills_family=True)
    other = login(url).json()
    old = login(url).json()
    new = refresh(url, old["refresh_token"]).json()
    refresh(url, old["refresh_token"])
    assert refresh(url, new["refresh_token"]).status_code == 400
    assert [me(url, each["access_token"]) for each in (old, new, other)] == [401, 401, 200]
    assert refresh(url, other["refresh_token"]).status_code == 200


def test_without_rotation_a_refresh_token_stays(lab: LabClient) -> None:
    url = lab.put("s", rotate_refresh=False)
    old = login(url).json()
    answers = [refresh(url, old["refresh_token"]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert "refresh_token" not in answers[0].json()


def test_a_site_may_give_no_refresh_token(lab: LabClient) -> None:
    assert "refresh_token" not in login(lab.put("s", gives_refresh=False)).json()


def test_a_rotation_stands_even_if_its_answer_is_lost(lab: LabClient) -> None:
    url = lab.put("s", refresh_latency_s=30)
    old = login(url).json()
    form = {"grant_type": "refresh_token", "refresh_token": old["refresh_token"]}
    with pytest.raises(httpx.ReadTimeout):
        send("POST", f"{url}/oauth/token", data=form, timeout=0.2)
    lab.patch("s", refresh_latency_s=0)
    assert refresh(url, old["refresh_token"]).status_code == 400
    assert lab.counts("s")["refresh_replays"] == 1


def test_ending_sessions_may_end_their_refresh_tokens(lab: LabClient) -> None:
    url = lab.put("s", rotate_refresh=False)
    anna, bert = (login(url, name).json()["refresh_token"] for name in ("anna", "bert"))
    lab.invalidate("s")
    assert refresh(url, anna).status_code == 200
    lab.invalidate("s", "anna", refresh=True)
    assert [refresh(url, each).status_code for each in (anna, bert)] == [400, 200]
    lab.invalidate("s", refresh=True)
    assert refresh(url, bert).status_code == 400


def test_a_new_login_of_a_single_session_ends_the_old_refresh_token(lab: LabClient) -> None:
    url = lab.put("s", single_session=True)
    old = login(url).json()
    new = refresh(url, old["refresh_token"]).json()
    assert me(url, old["access_token"]) == 401
    login(url)
    assert refresh(url, new["refresh_token"]).status_code == 400
