"""Requests: what became of an asking, and what can be done about it."""

from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.access.contracts import Scope
from apps.access.permissions import scope
from apps.access.services import principal_of, require
from apps.common.database import is_unavailable
from apps.common.pagination import LongPages
from apps.tokens.filters import LoginAttemptFilter, TokenRequestFilter
from apps.tokens.models import LoginAttempt, TokenRequest
from apps.tokens.serializers.explain import RequestExplanationOutput
from apps.tokens.serializers.rows import (
    CancelOutput,
    LoginAttemptOutput,
    ProgressOutput,
    RequestIdOutput,
    TokenRequestOutput,
)
from apps.tokens.services import checkpoints, explain, progress, requests
from apps.tokens.services.checkpoints import SyncStatus
from apps.tokens.services.requests import Asker
from apps.tokens.viewsets.scoping import granted


class TokenRequestViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[TokenRequest]):
    """Requests for the sites and accounts the caller has grants for."""

    permission_classes = [scope(read=Scope.REQUESTS_READ)]
    serializer_class = TokenRequestOutput
    pagination_class = LongPages
    filterset_class = TokenRequestFilter
    ordering_fields = ["created_at", "finished_at", "order_at", "attempts"]
    ordering = ["-created_at"]
    queryset = TokenRequest.objects.select_related("site", "account")

    def get_queryset(self) -> QuerySet[TokenRequest]:
        principal = principal_of(self.request)
        return granted(super().get_queryset(), principal, site="site", account="account")

    @extend_schema(responses=ProgressOutput)
    @action(detail=True, methods=["get"], filterset_class=None)
    def status(self, request: Request, **_: Any) -> Response:
        """Say how far the request is, and when to ask again."""
        try:
            state, sync = checkpoints.compare(self.get_object())
        except DatabaseError as error:
            found = self._while_the_database_is_away(error)
            state, sync = found, SyncStatus.UNKNOWN
        return Response({**ProgressOutput(state).data, "cache_sync_status": sync})

    def _while_the_database_is_away(self, error: DatabaseError) -> progress.Progress:
        """Return the cached progress to a caller with a grant for it, or let the error stand."""
        if not is_unavailable(error):
            raise error
        found = checkpoints.cached(UUID(str(self.kwargs["pk"])))
        principal = principal_of(self.request)
        if found is None or not principal.may_read(site=found[1], account=found[2]):
            raise error
        return found[0]

    @extend_schema(responses=RequestExplanationOutput)
    @action(detail=True, methods=["get"], filterset_class=None)
    def explain(self, request: Request, **_: Any) -> Response:
        """Say what the request is waiting for, who is before it, and when it can start."""
        return Response(RequestExplanationOutput(explain.request(self.get_object())).data)

    @extend_schema(request=None, responses=CancelOutput)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """End this caller's interest; the request ends when nobody is interested any more."""
        principal = principal_of(request)
        row = self.get_object()
        gone = requests.detach(row, kind=principal.kind, principal_id=principal.id)
        return Response(CancelOutput({"cancelled": gone}).data)

    @extend_schema(request=None, responses={202: RequestIdOutput})
    @action(detail=True, methods=["post"])
    def requeue(self, request: Request, **_: Any) -> Response:
        """Make or join a new request in place of one that ended without a token."""
        principal = principal_of(request)
        require(principal, Scope.OPERATE)
        asker = Asker(kind=principal.kind, id=principal.id, name=principal.name)
        pk = requests.requeue(self.get_object(), asker=asker)
        return Response(RequestIdOutput({"request_id": pk}).data, status=status.HTTP_202_ACCEPTED)


class LoginAttemptViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[LoginAttempt]):
    """Logins that were made or are being made."""

    permission_classes = [scope(read=Scope.REQUESTS_READ)]
    serializer_class = LoginAttemptOutput
    pagination_class = LongPages
    filterset_class = LoginAttemptFilter
    ordering_fields = ["started_at", "finished_at"]
    ordering = ["-started_at"]
    queryset = LoginAttempt.objects.named().select_related("site", "account")

    def get_queryset(self) -> QuerySet[LoginAttempt]:
        principal = principal_of(self.request)
        return granted(super().get_queryset(), principal, site="site", account="account")
