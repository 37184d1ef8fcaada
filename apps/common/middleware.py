"""What every request to Django passes first."""

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.common import events
from apps.common.problems import API_PREFIX, problem_response, wants_problem
from apps.common.request_context import bind

# `(?P<pk>[^/.]+)` and `<uuid:pk>`
_GROUP: Final = re.compile(r"(?:\(\?P)?<(?:\w+:)?(\w+)>(?:[^()]*\))?")
access_log = logging.getLogger("latchkey.access")


class RequestContextMiddleware:
    """Gives every request an id, answers it back, and writes one access line.

    `X-Request-ID` is taken from the caller where it is harmless. The line holds no query string.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        with bind(request.headers.get("X-Request-ID")) as request_id:
            # Django logs failed answers after this middleware has returned, by the request alone.
            request.request_id = request_id  # type: ignore[attr-defined]
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            took_s = time.perf_counter() - started
            _measure(request, response.status_code, took_s)
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


def _measure(request: HttpRequest, status: int, took_s: float) -> None:
    """Measure an API request by its route; a path that leads nowhere is no route."""
    if not request.path.startswith(API_PREFIX):
        return
    match = request.resolver_match
    route = match.route if match else "unknown"
    # A route of the router is an expression; what is measured is meant to be read.
    route = _GROUP.sub(r"{\1}", route).replace("^", "").removesuffix("$")
    events.request_answered(method=request.method or "", route=route, status=status, took_s=took_s)
