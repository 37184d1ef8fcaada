"""What operators look at: workers, repairs, limits."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from apps.access import audit
from apps.access.contracts import ANY_SITE, AuditKind, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of
from apps.common.errors import NotPermitted
from apps.tokens.models import (
    AdmissionLimits,
    BreakerTransition,
    RecoveryAction,
    SiteBreaker,
    WorkerProcess,
)
from apps.tokens.serializers.explain import BreakerTransitionOutput, SiteBreakerOutput
from apps.tokens.serializers.rows import (
    AdmissionLimitsSerializer,
    LoginAttemptOutput,
    RecoveryActionOutput,
    WorkerProcessOutput,
)
from apps.tokens.services import recovery
from apps.tokens.viewsets.scoping import audit_of


class WorkerProcessViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[WorkerProcess]):
    """Processes that make logins, running or ended."""

    permission_classes = [scope(read=Scope.OPERATE)]
    serializer_class = WorkerProcessOutput
    filterset_fields = ["host", "cluster", "ended_how"]
    ordering_fields = ["started_at", "lease_until"]
    ordering = ["-started_at"]
    queryset = WorkerProcess.objects.all()


class RecoveryActionViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[RecoveryAction]):
    """Repairs that were made, the newest first."""

    permission_classes = [scope(read=Scope.OPERATE)]
    serializer_class = RecoveryActionOutput
    filterset_fields = ["kind"]
    ordering_fields = ["at"]
    ordering = ["-at"]
    queryset = RecoveryAction.objects.all()

    @extend_schema(responses=LoginAttemptOutput(many=True), filters=False)
    @action(detail=False, methods=["get"], filterset_fields=None)
    def suspects(self, request: Request) -> Response:
        """List the logins whose worker is silent; their permits are held until it is proven dead,
        or until the deadline."""
        page: Any = self.paginate_queryset(recovery.suspects())  # type: ignore[arg-type]
        return self.get_paginated_response(LoginAttemptOutput(page, many=True).data)


class SiteBreakerViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[SiteBreaker]):
    """The breakers of sites that ever failed; `POST sites/{slug}/breaker` sets one."""

    permission_classes = [scope(read=Scope.OPERATE)]
    serializer_class = SiteBreakerOutput
    filterset_fields = ["state"]
    ordering_fields = ["changed_at", "trips"]
    ordering = ["site__slug"]
    # Asked for as it is shown: by the slug of its site.
    lookup_field, lookup_url_kwarg = "site__slug", "site"
    queryset = SiteBreaker.objects.select_related("site")


class BreakerTransitionViewSet(
    ListModelMixin, RetrieveModelMixin, GenericViewSet[BreakerTransition]
):
    """Every change of every breaker, the newest first."""

    permission_classes = [scope(read=Scope.OPERATE)]
    serializer_class = BreakerTransitionOutput
    filterset_fields = {"site__slug": ["exact"], "after": ["exact"], "at": ["gte", "lt"]}
    ordering_fields = ["at"]
    ordering = ["-at"]
    queryset = BreakerTransition.objects.select_related("site")


class LimitsView(APIView):
    """The limits that admission goes by, from its next round on."""

    permission_classes = [scope(read=Scope.OPERATE)]

    @extend_schema(responses=AdmissionLimitsSerializer)
    def get(self, request: Request) -> Response:
        return Response(AdmissionLimitsSerializer(AdmissionLimits.current()).data)

    @extend_schema(request=AdmissionLimitsSerializer, responses=AdmissionLimitsSerializer)
    def patch(self, request: Request) -> Response:
        if not principal_of(request).may_read(site=ANY_SITE, account=""):
            raise NotPermitted("These limits concern all sites, and your key has no grant for all.")
        body = AdmissionLimitsSerializer(AdmissionLimits.current(), data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        details: dict[str, Any] = dict(body.validated_data)
        audit.record(audit_of(request, AuditKind.SETTINGS, details=details))
        AdmissionLimits.change(details)
        return Response(AdmissionLimitsSerializer(AdmissionLimits.current()).data)
