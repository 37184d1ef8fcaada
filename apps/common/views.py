"""What Django answers when no view could: problems under /api/, plain pages elsewhere.

The root URLconf names them as handler400, handler403, handler404 and handler500.
"""

import math
import sys

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views import defaults

from apps.common.database import is_unavailable
from apps.common.problem_mapping import DATABASE_RETRY_AFTER_S
from apps.common.problems import problem_response, wants_problem


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler400"""
    if wants_problem(request):
        return problem_response(request, exception)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler403"""
    if wants_problem(request):
        return problem_response(request, exception)
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    """handler404"""
    if wants_problem(request):
        return problem_response(request, exception or Http404())
    return defaults.page_not_found(request, exception or Http404())


def server_error(request: HttpRequest) -> HttpResponseBase:
    """handler500; a database that is away is a 503 with Retry-After on pages too."""
    error = sys.exc_info()[1] or RuntimeError("handler500 without an exception")
    if wants_problem(request):
        return problem_response(request, error)
    if is_unavailable(error):
        text = "The database is not available. Please try again in a few seconds.\n"
        headers = {"Retry-After": str(math.ceil(DATABASE_RETRY_AFTER_S))}
        return HttpResponse(text, content_type="text/plain", status=503, headers=headers)
    return defaults.server_error(request)


def liveness(request: HttpRequest) -> HttpResponseBase:
    """Say that this process answers; nothing else is asked. The edge has the same."""
    return JsonResponse({"status": "alive", "version": settings.SPECTACULAR_SETTINGS["VERSION"]})
