"""Every failure is an RFC 9457 problem in the caller's language."""

import io
import json
import logging
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.core import exceptions as django_errors
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.utils.translation import gettext, override
from rest_framework import exceptions as drf_errors
from rest_framework import serializers

from apps.common import problem_texts
from apps.common.errors import (
    ApiFailed,
    BusinessRuleViolated,
    CacheFailed,
    DatabaseUnavailable,
    ErrorType,
    SystemFailed,
    ValidationFailed,
)
from apps.common.parsers import BodyTooLarge, InvalidJSON
from apps.common.problem_mapping import DatabaseFailed, field_errors
from apps.common.problems import language_of, problem_of
from apps.common.request_context import bind

LOCALE = Path(settings.BASE_DIR) / "apps/common/locale/zh_Hans/LC_MESSAGES"

# The source's texts, word for word.
CHINESE = {
    ErrorType.VALIDATION: (
        "输入的数据格式不正确",
        ["检查输入格式是否正确", "确保必填字段已填写", "参考示例格式重新输入"],
    ),
    ErrorType.DATABASE: (
        "数据保存失败，请重试",
        ["稍后重试操作", "检查数据是否过大", "联系管理员检查系统状态"],
    ),
    ErrorType.CACHE: ("系统繁忙，请稍后重试", ["刷新页面重试", "清理浏览器缓存", "稍后重试"]),
    ErrorType.API: ("服务调用失败，请检查网络连接", ["联系技术支持"]),
    ErrorType.BUSINESS_LOGIC: ("操作无法完成", ["联系技术支持"]),
    ErrorType.SYSTEM: ("系统遇到了问题", ["联系技术支持"]),
}


def body_of(error: BaseException, language: str = "en") -> dict:
    _, _, body = problem_of(error, language=language, instance="/api/x")
    return body


@pytest.mark.parametrize(
    "error",
    [
        ValidationFailed(),
        DatabaseUnavailable(),
        DatabaseFailed(),
        CacheFailed(),
        ApiFailed(),
        BusinessRuleViolated(),
        SystemFailed(),
    ],
    ids=lambda error: error.code,
)
def test_chinese_texts_are_those_of_the_source(error):
    body = body_of(error, "zh-hans")
    assert (body["user_message"], body["suggestions"]) == CHINESE[error.error_type]


def test_an_unexpected_exception_has_the_system_text_and_none_of_its_own():
    body = body_of(ZeroDivisionError("the password is hunter2"), "zh-hans")
    assert body["user_message"] == "系统遇到了一个问题，请稍后重试"
    assert body["suggestions"] == ["检查网络连接", "刷新页面重试", "联系技术支持"]
    assert body["error_type"] == "system_error"
    assert body["status"] == 500
    assert "hunter2" not in json.dumps(body)


def test_a_problem_has_every_promised_member():
    with bind("request-0001"):
        _, headers, body = problem_of(
            BusinessRuleViolated("No.", details={"site": "court_zxfw"}, retry_after_s=1.2),
            language="en",
            instance="/api/x",
        )
    taken = datetime.fromisoformat(body.pop("timestamp"))
    assert taken.utcoffset() == timedelta(0)
    assert body == {
        "type": "urn:latchkey:problem:business_logic_error",
        "title": "This cannot be done now",
        "status": 409,
        "detail": "No.",
        "instance": "/api/x",
        "success": False,
        "error_type": "business_logic_error",
        "code": "business_logic_error",
        "message": "No.",
        "details": {"site": "court_zxfw"},
        "user_message": "The operation cannot be completed",
        "suggestions": ["Contact technical support"],
        "request_id": "request-0001",
        "retry_after_s": 1.2,
    }
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404("x"), 404, "not_found"),
        (django_errors.PermissionDenied("x"), 403, "permission_denied"),
        (django_errors.SuspiciousOperation("x"), 400, "validation_error"),
        (django_errors.DisallowedHost("x"), 400, "validation_error"),
        (django_errors.RequestDataTooBig("x"), 413, "body_too_large"),
        (django_errors.ValidationError("x"), 400, "validation_error"),
        (OperationalError("database is locked"), 503, "database_unavailable"),
        (InterfaceError("connection already closed"), 503, "database_unavailable"),
        (OperationalError("no such table: x"), 500, "database_error"),
        (DataError("x"), 500, "database_error"),
        (IntegrityError("x"), 409, "conflict"),
        (drf_errors.NotAuthenticated(), 401, "not_authenticated"),
        (drf_errors.PermissionDenied(), 403, "permission_denied"),
        (drf_errors.NotFound(), 404, "not_found"),
        (drf_errors.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (drf_errors.NotAcceptable(), 406, "not_acceptable"),
        (drf_errors.UnsupportedMediaType("x/y"), 415, "unsupported_media_type"),
        (drf_errors.Throttled(wait=7), 429, "rate_limited"),
        (drf_errors.ParseError(), 400, "parse_error"),
        (drf_errors.APIException("secret cause"), 500, "system_error"),
        (InvalidJSON(), 400, "invalid_json"),
        (BodyTooLarge(), 413, "body_too_large"),
        (KeyError("x"), 500, "unexpected_error"),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else None,
)
def test_foreign_exceptions_become_problems(error, status, code):
    got, _, body = problem_of(error, language="en")
    assert (got, body["status"], body["code"]) == (status, status, code)


def test_a_database_that_is_away_says_when_to_ask_again():
    _, headers, _ = problem_of(OperationalError("database is locked"), language="en")
    assert int(headers["Retry-After"]) >= 1


def test_a_throttled_caller_is_told_how_long():
    _, headers, _ = problem_of(drf_errors.Throttled(wait=6.1), language="en")
    assert headers["Retry-After"] == "7"


def test_a_401_names_a_scheme():
    _, headers, _ = problem_of(drf_errors.NotAuthenticated(), language="en")
    assert headers["WWW-Authenticate"] == "Bearer"


class Row(serializers.Serializer):
    username = serializers.CharField()


class Form(serializers.Serializer):
    site = serializers.SlugField()
    accounts = Row(many=True)

    def validate(self, attrs):
        raise serializers.ValidationError("Both.", code="both")


def test_validation_errors_keep_their_paths():
    form = Form(data={"site": "a b", "accounts": [{"username": "a"}, {}]})
    with pytest.raises(serializers.ValidationError) as caught:
        form.is_valid(raise_exception=True)
    errors = body_of(caught.value)["details"]["errors"]
    assert set(errors) == {"site", "accounts.1.username"}
    assert errors["accounts.1.username"] == [
        {"code": "required", "message": "This field is required."}
    ]


def test_errors_of_the_whole_input_are_under_the_empty_path():
    form = Form(data={"site": "a", "accounts": []})
    form.is_valid()
    assert field_errors(serializers.ValidationError(form.errors).detail) == {
        "": [{"code": "both", "message": "Both."}]
    }


def test_a_field_called_message_is_still_a_field():
    error = serializers.ValidationError({"message": ["x"], "code": ["y"]})
    assert set(body_of(error)["details"]["errors"]) == {"message", "code"}


def test_django_validation_errors_keep_their_fields():
    error = django_errors.ValidationError(
        {"site": django_errors.ValidationError("No %(what)s.", code="bad", params={"what": "x"})}
    )
    assert body_of(error)["details"]["errors"] == {"site": [{"code": "bad", "message": "No x."}]}


def test_no_secret_of_a_detail_is_answered():
    error = ApiFailed(
        "GET https://u:hunter2@portal.example/?token=hunter2 failed",
        details={"password": "hunter2", "headers": {"Authorization": "Bearer hunter2"}},
    )
    assert "hunter2" not in json.dumps(body_of(error))


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-hans"),
        ("zh", "zh-hans"),
        ("zh-Hans-CN", "zh-hans"),
        ("en-GB,zh;q=0.5", "en"),
        ("fr,zh;q=0.5", "zh-hans"),
        ("fr", "en"),
        ("*", "en"),
        ("", "en"),
        ("\x00;;;q=zh", "en"),
        ("zh;q=0, en", "en"),
    ],
)
def test_the_language_is_the_best_of_accept_language(header, language):
    assert language_of(header) == language


def test_an_unexpected_exception_is_logged_with_its_traceback(caplog):
    try:
        raise KeyError("cause-of-it")
    except KeyError as error:
        problem_of(error, language="en", instance="/api/x")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.msg["exc_info"].args == ("cause-of-it",)


def test_a_callers_mistake_is_not_logged(caplog):
    problem_of(Http404(), language="en")
    assert caplog.records == []


def all_texts() -> set[str]:
    tables = [
        problem_texts.UNEXPECTED,
        *problem_texts._BY_TYPE.values(),
        *problem_texts._by_code.values(),
    ]
    return {text for table in tables for text in (table.user_message, *table.suggestions)}


@pytest.fixture(scope="module")
def po():
    return read_po(io.BytesIO((LOCALE / "django.po").read_bytes()))


def test_every_text_has_a_translation():
    with override("zh-hans"):
        assert [text for text in all_texts() if gettext(text) == text] == []


def test_the_compiled_catalogue_is_that_of_the_source(po):
    compiled = read_mo(io.BytesIO((LOCALE / "django.mo").read_bytes()))
    wanted = {message.id: message.string for message in po if message.id}
    assert {message.id: message.string for message in compiled if message.id} == wanted


def test_a_code_cannot_be_given_texts_twice():
    with pytest.raises(ValueError, match="not_found"):
        problem_texts.register("not_found", "x")
