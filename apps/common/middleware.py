"""What every request to Django passes first."""

import logging
import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from apps.common.problems import problem_response, wants_problem
from apps.common.request_context import bind

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
            if access_log.isEnabledFor(logging.INFO):
                took_ms = (time.perf_counter() - started) * 1000
                access_log.info(
                    "%s %s %d %.1fms", request.method, request.path, response.status_code, took_ms
                )
        return response

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer an exception of a plain view under /api/; leave other paths to Django."""
        return problem_response(request, exception) if wants_problem(request) else None
