"""Tokens: acquire, look at what is stored, report and revoke."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.access import audit
from apps.access.contracts import AuditKind, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of, require
from apps.tokens.filters import StoredTokenFilter
from apps.tokens.models import StoredToken
from apps.tokens.serializers.acquire import (
    AcquireInput,
    HandOutOutput,
    ReportInput,
    ReportOutput,
    RevokeInput,
    RevokeOutput,
    TicketOutput,
)
from apps.tokens.serializers.rows import StoredTokenOutput
from apps.tokens.services import accounts, answers, reports
from apps.tokens.viewsets.scoping import audit_of, granted


class TokenViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[StoredToken]):
    """What is stored, without the secret parts; and the way to get those: `acquire`."""

    permission_classes = [scope(read=Scope.TOKENS_READ)]
    serializer_class = StoredTokenOutput
    filterset_class = StoredTokenFilter
    ordering_fields = ["issued_at", "expires_at", "usable_until", "version"]
    ordering = ["-issued_at"]
    queryset = StoredToken.objects.select_related("account__site")

    def get_queryset(self) -> QuerySet[StoredToken]:
        rows = super().get_queryset()
        principal = principal_of(self.request)
        return granted(rows, principal, site="account__site", account="account")

    @extend_schema(
        request=AcquireInput,
        responses={
            200: HandOutOutput,
            202: OpenApiResponse(TicketOutput, "The login is still going; ask again."),
        },
    )
    @action(detail=False, methods=["post"])
    def acquire(self, request: Request) -> Response:
        """Return a valid token for a site: from storage, or by one login that all callers share.

        By default this face does not wait. With `max_wait_s` it waits that long, at most half of
        a WSGI server's threads at a time; the edge (the default way of running) waits for free.
        """
        body = AcquireInput(data=request.data)
        body.is_valid(raise_exception=True)
        code, content = answers.answer(
            body.to_spec(),
            principal=principal_of(request),
            max_wait_s=body.validated_data.get("max_wait_s", settings.LATCHKEY_WSGI_WAIT_S),
            remote_address=request.META.get("REMOTE_ADDR", ""),
        )
        return Response(content, status=code, headers={"Cache-Control": "no-store"})

    @extend_schema(request=ReportInput, responses={202: ReportOutput})
    @action(detail=True, methods=["post"])
    def report(self, request: Request, **_: Any) -> Response:
        """Say that the site rejected this token, naming it by its fingerprint."""
        body = ReportInput(data=request.data)
        body.is_valid(raise_exception=True)
        token = self.get_object()
        mark = body.validated_data["fingerprint"]
        state = reports.report(token, mark, principal=principal_of(request))
        audit.record(self._audit(request, AuditKind.REPORT, token, state=state))
        return Response(ReportOutput({"state": state}).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=RevokeInput, responses=RevokeOutput)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, **_: Any) -> Response:
        """Take this token out of circulation; logins begun before cannot bring it back."""
        require(principal_of(request), Scope.OPERATE)
        body = RevokeInput(data=request.data)
        body.is_valid(raise_exception=True)
        token = self.get_object()
        audit.record(self._audit(request, AuditKind.REVOKE, token))
        revoked = accounts.revoke(token, reason=body.validated_data["reason"])
        return Response(RevokeOutput({"revoked": revoked}).data)

    def _audit(
        self, request: Request, kind: AuditKind, token: StoredToken, **details: Any
    ) -> audit.AuditRecord:
        return audit_of(
            request,
            kind,
            site=token.account.site.slug,
            account=token.account.username,
            token_fingerprint=token.fingerprint,
            details=details,
        )
