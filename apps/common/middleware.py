"""What every request to Django passes first."""

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.common import events, tracing
from apps.common.problems import API_PREFIX, problem_response, wants_problem
from apps.common.request_context import bind
from apps.common.views import page_not_found

# `(?P<pk>[^/.]+)` and `<uuid:pk>`
_GROUP: Final = re.compile(r"(?:\(\?P)?<(?:\w+:)?(\w+)>(?:[^()]*\))?")
access_log = logging.getLogger("latchkey.access")


class RequestContextMiddleware:
    """Gives every request an id and a span, answers both back, and writes one access line.

    `X-Request-ID` is taken from the caller where it is harmless. The line holds no query string.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        method = request.method or ""
        with (
            bind(request.headers.get("X-Request-ID")) as request_id,
            tracing.serving(method, request.path, request.headers.get("traceparent")) as span,
        ):
            # Django logs failed answers after this middleware has returned, by the request alone.
            request.request_id = request_id  # type: ignore[attr-defined]
            request.trace_id = span.trace_id  # type: ignore[attr-defined]
            # No name of anything holds a NUL, and PostgreSQL refuses to look for one.
            nowhere = "\0" in request.path
            response = page_not_found(request) if nowhere else self.get_response(request)
            response["X-Request-ID"] = request_id
            if span.traceparent:
                response["traceparent"] = span.traceparent
            took_s = time.perf_counter() - started
            route = _route(request)
            tracing.answered(span, method=method, route=route, status=response.status_code)
            if request.path.startswith(API_PREFIX):
                events.request_answered(
                    method=method, route=route, status=response.status_code, took_s=took_s
                )
            if access_log.isEnabledFor(logging.INFO):
                took_ms = took_s * 1000
                access_log.info(
                    "%s %s %d %.1fms", request.method, request.path, response.status_code, took_ms
                )
        return response

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer an exception of a plain view under /api/; leave other paths to Django."""
        return problem_response(request, exception) if wants_problem(request) else None


def _route(request: HttpRequest) -> str:
    """Return the pattern that the path has matched; a path that leads nowhere is no route."""
    match = request.resolver_match
    if match is None:
        return "unknown"
    # A route of the router is an expression; what is shown is meant to be read.
    return "/" + _GROUP.sub(r"{\1}", match.route).replace("^", "").removesuffix("$")
