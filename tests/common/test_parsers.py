"""JSON from strangers: what two readers could understand differently is refused."""

import io

import pytest
from rest_framework.test import APIRequestFactory

from apps.common.parsers import BodyTooLarge, InvalidJSON, StrictJSONParser, parse_json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[]", []),
        ('{"名": "\\u00e9"}'.encode(), {"名": "é"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "\\\\u0000"}', {"a": "\\u0000"}),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
    ],
)
def test_good_json_is_read(body, value):
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'[{"a": {"b": 1, "b": 1}}]',
        b'{"a": 1,}',
        b'{"a": 1} {}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        '{"a": "文"}'.encode("gbk"),
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": ["\\u0000"]}',
        b'{"\\u0000": 1}',
        b'{"a": "\n"}',
        b"[" * 50_000 + b"]" * 50_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": 9223372036854775808}',
        b'{"a": [-9223372036854775809]}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bad_json_is_refused(body):
    with pytest.raises(InvalidJSON):
        parse_json(body)


def test_the_refusal_does_not_repeat_the_body():
    with pytest.raises(InvalidJSON) as caught:
        parse_json(b'{"password": hunter2}')
    assert "hunter2" not in caught.value.message


def test_a_body_at_the_limit_is_read(settings):
    settings.LATCHKEY_MAX_BODY_BYTES = 8
    assert parse_json(b'{"a": 1}') == {"a": 1}


def parse(body: bytes, content_type: str = "application/json", **headers):
    request = APIRequestFactory().post("/", data=body, content_type=content_type, **headers)
    return StrictJSONParser().parse(request, content_type, {"request": request})


def test_a_body_over_the_limit_is_refused_before_it_is_read(settings):
    settings.LATCHKEY_MAX_BODY_BYTES = 8

    class Unreadable(io.BytesIO):
        def read(self, *args):
            raise AssertionError

    request = APIRequestFactory().post("/", data=b'{"a": 12}', content_type="application/json")
    with pytest.raises(BodyTooLarge):
        StrictJSONParser().parse(Unreadable(), "application/json", {"request": request})


def test_a_body_longer_than_declared_is_refused(settings):
    settings.LATCHKEY_MAX_BODY_BYTES = 8
    with pytest.raises(BodyTooLarge):
        StrictJSONParser().parse(io.BytesIO(b" " * 1_000), "application/json", {})


def test_another_charset_is_refused():
    with pytest.raises(InvalidJSON):
        parse(b"{}", "application/json; charset=gbk")


def test_utf8_may_be_named():
    assert parse(b"{}", 'application/json; charset="UTF-8"') == {}
