"""Errors as RFC 9457 problem details, for DRF, for Django and for a raw ASGI application."""

import math
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language
from django.utils.translation.trans_real import (
    get_supported_language_variant,
    parse_accept_lang_header,
)
from rest_framework.response import Response

from apps.common import events
from apps.common.errors import BrokerError, DatabaseUnavailable, SystemFailed
from apps.common.problem_mapping import Conflict, DatabaseFailed, Unexpected, broker_error_of
from apps.common.problem_texts import UNEXPECTED, texts_of
from apps.common.redaction import redact
from apps.common.request_context import current_request_id

CONTENT_TYPE: Final = "application/problem+json"
API_PREFIX: Final = "/api/"
DEFAULT_LANGUAGE: Final = "en"

log = structlog.stdlib.get_logger(__name__)


def problem_of(
    error: BaseException, *, language: str, instance: str = ""
) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return status, headers and body of the answer to `error`.

    `language` is one of the settings' LANGUAGES (see `language_of`); `instance` is the path of
    the request. An error nobody foresaw is logged with its traceback; its text is not in the
    body. Neither is any secret the redaction knows.
    """
    known = broker_error_of(error)
    _log(error, known, path=instance)
    events.problem_answered(error_type=known.error_type, code=known.code)
    headers = {
        "Content-Type": CONTENT_TYPE,
        "Content-Language": language,
        "Cache-Control": "no-store",
    }
    if known.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(known.retry_after_s)))
    if known.status == 401:
        headers["WWW-Authenticate"] = getattr(error, "auth_header", None) or "Bearer"
    return known.status, headers, _body(known, language=language, instance=instance)


def language_of(accept_language: str) -> str:
    """Return the best of the settings' LANGUAGES for an Accept-Language header; English if none."""
    for candidate, _quality in parse_accept_lang_header(accept_language.lower()[:500]):
        if candidate == "*":
            break
        try:
            return get_supported_language_variant(candidate)
        except LookupError:
            continue
    return DEFAULT_LANGUAGE


class ProblemResponse(Response):
    """A problem is JSON whatever the view would have rendered."""

    # Django would log the answer again, without the traceback.
    _has_been_logged = True

    @property
    def rendered_content(self) -> bytes:  # type: ignore[override]  # DRF's own renderers give bytes
        self["Content-Type"] = CONTENT_TYPE
        return orjson.dumps(self.data, default=str)


class PlainProblemResponse(HttpResponse):
    """The same, outside of DRF."""

    _has_been_logged = True


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """Answer any exception of a DRF view; REST_FRAMEWORK["EXCEPTION_HANDLER"]."""
    # rest_framework.views loads the classes of the settings, and those may import this module.
    from rest_framework.views import set_rollback

    request = context["request"]
    set_rollback()
    status, headers, body = problem_of(exc, language=_language_for(request), instance=request.path)
    return ProblemResponse(body, status=status, headers=headers)


def problem_response(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Answer `error` with a problem, outside of DRF."""
    status, headers, body = problem_of(
        error, language=_language_for(request), instance=request.path
    )
    return PlainProblemResponse(orjson.dumps(body, default=str), status=status, headers=headers)


def wants_problem(request: HttpRequest) -> bool:
    """Say whether this request is for the API, where every failure is a problem."""
    return request.path.startswith(API_PREFIX)


def _language_for(request: Any) -> str:
    # LocaleMiddleware may have decided already (cookie, session); the header is what is promised.
    header = request.META.get("HTTP_ACCEPT_LANGUAGE", "")
    return language_of(header) if header else get_language() or DEFAULT_LANGUAGE


def _log(error: BaseException, known: BrokerError, *, path: str) -> None:
    """Log what an operator must see; what only concerns the caller is in the access line."""
    if isinstance(known, DatabaseUnavailable):
        log.warning("database_unavailable", path=path, reason=str(error))
    elif isinstance(known, Conflict):
        log.warning("database_conflict", path=path, exc_info=error)
    elif isinstance(known, SystemFailed | DatabaseFailed):
        log.error(known.code, path=path, exc_info=error)


def _body(error: BrokerError, *, language: str, instance: str) -> dict[str, object]:
    texts = UNEXPECTED if isinstance(error, Unexpected) else texts_of(error)
    user_message, suggestions = texts.translated(language)
    message = redact(error.message)
    body: dict[str, object] = {
        "type": f"urn:latchkey:problem:{error.code}",
        "title": error.default_message.rstrip("."),
        "status": error.status,
        "detail": message,
        "instance": instance,
        "success": False,
        "error_type": error.error_type.value,
        "code": error.code,
        "message": message,
        "details": redact(error.details),
        "timestamp": datetime.now(tz=UTC).isoformat(),
        "user_message": user_message,
        "suggestions": suggestions,
        "request_id": current_request_id(),
    }
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    return body
