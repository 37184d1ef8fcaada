"""Failures and request ids as a client sees them, through Django's whole request cycle."""

import logging

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.common.urls")
STATUS = {
    "missing": 404,
    "denied": 403,
    "suspicious": 400,
    "database": 503,
    "rule": 409,
    "bug": 500,
}


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("face", ["drf", "plain"])
@pytest.mark.parametrize(("failure", "status"), STATUS.items())
def test_every_failure_under_api_is_a_problem(client, face, failure, status):
    response = client.get(f"/api/{face}/{failure}")
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["request_id"] == response["X-Request-ID"]
    assert body["instance"] == f"/api/{face}/{failure}"
    assert b"hunter2" not in response.content
    assert ("Retry-After" in response) == (failure == "database")


@pytest.mark.parametrize(("failure", "status"), [(f, s) for f, s in STATUS.items() if f != "rule"])
def test_a_failing_page_is_plain(client, failure, status):
    response = client.get(f"/page/{failure}")
    assert response.status_code == status
    assert response["Content-Type"].startswith("text/")
    assert b"hunter2" not in response.content


def test_a_page_without_its_database_says_when_to_come_back(client):
    assert client.get("/page/database")["Retry-After"] == "5"


def test_an_unknown_path_under_api_is_a_problem(client):
    response = client.get("/api/v1/automation/nothing-here")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_an_unknown_path_elsewhere_is_a_page(client):
    response = client.get("/nothing-here")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("face", ["drf", "plain"])
def test_the_language_is_the_callers(client, face):
    response = client.get(f"/api/{face}/rule", headers={"Accept-Language": "zh-CN"})
    assert response.json()["user_message"] == "操作无法完成"
    assert response["Content-Language"] == "zh-hans"


def test_an_accept_header_nobody_serves_still_gets_a_problem(client):
    response = client.get("/api/drf/rule", headers={"Accept": "text/csv"})
    assert response.status_code == 406
    assert response.json()["code"] == "not_acceptable"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"a": NaN}', 400, "invalid_json"),
        ('{"a": "文"}'.encode("gbk"), 400, "invalid_json"),
        (b" " * 300_000, 413, "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem(client, body, status, code):
    response = client.post("/api/echo", data=body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_a_form_is_not_json(client):
    assert client.post("/api/echo", data={"a": 1}).status_code == 415


def test_a_harmless_request_id_is_kept(client):
    response = client.get("/id", headers={"X-Request-ID": "trace-4711.a_b"})
    assert response["X-Request-ID"] == response.content.decode() == "trace-4711.a_b"


@pytest.mark.parametrize(
    "sent", ["short", "a" * 65, "with space 1", "new\nline-000", "日本語日本語日本", "<script>1"]
)
def test_an_unsafe_request_id_is_replaced(client, sent):
    response = client.get("/id", headers={"X-Request-ID": sent})
    assert response["X-Request-ID"] == response.content.decode()
    assert len(response["X-Request-ID"]) == 32


def test_a_request_costs_one_line_and_shows_no_query(client, caplog):
    with caplog.at_level(logging.INFO):
        client.get("/api/drf/missing?token=hunter2")
    (record,) = caplog.records
    assert record.name == "latchkey.access"
    assert record.getMessage().startswith("GET /api/drf/missing 404 ")


def test_a_bug_is_logged_once_with_its_traceback(client, caplog):
    client.get("/api/drf/bug")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [type(record.msg["exc_info"]) for record in errors] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("query", "rows"), [("", 50), ("page_size=7", 7), ("page_size=1000", 200), ("page=11", None)]
)
def test_pages_have_a_size_and_a_maximum(client, query, rows):
    response = client.get(f"/api/numbers?{query}")
    if rows is None:
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    else:
        assert len(response.json()["results"]) == rows
