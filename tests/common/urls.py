"""Views that fail in every way."""

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpResponse
from django.urls import path
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.common.errors import BusinessRuleViolated
from apps.common.pagination import Pages
from apps.common.request_context import current_request_id

FAILURES = {
    "missing": Http404,
    "denied": PermissionDenied,
    "suspicious": SuspiciousOperation,
    "database": lambda: OperationalError("database is locked"),
    "rule": BusinessRuleViolated,
    "bug": lambda: ZeroDivisionError("hunter2"),
}


def plain(request, failure):
    raise FAILURES[failure]()


def request_id(request):
    return HttpResponse(current_request_id())


class Open(APIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()


class Failing(Open):
    def get(self, request, failure):
        raise FAILURES[failure]()


class Echo(Open):
    def post(self, request):
        return Response(request.data)


class Number(serializers.Serializer):
    n = serializers.IntegerField()


class Numbers(Open):
    def get(self, request):
        pages = Pages()
        page = pages.paginate_queryset([{"n": n} for n in range(500)], request)
        return pages.get_paginated_response(Number(page, many=True).data)


urlpatterns = [
    path("api/drf/<failure>", Failing.as_view()),
    path("api/plain/<failure>", plain),
    path("api/echo", Echo.as_view()),
    path("api/numbers", Numbers.as_view()),
    path("page/<failure>", plain),
    path("id", request_id),
]
handler400 = "apps.common.views.bad_request"
handler403 = "apps.common.views.permission_denied"
handler404 = "apps.common.views.page_not_found"
handler500 = "apps.common.views.server_error"
