"""Tuning and simulation over HTTP."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from apps.access import audit
from apps.access.contracts import AuditKind, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of
from apps.performance.models import LimitChange, TuningBounds
from apps.performance.permissions import require_site
from apps.performance.serializers.tuning import (
    LimitChangeOutput,
    OptimizeInput,
    OptimizeOutput,
    SimulateInput,
    SimulationOutput,
    TuningBoundsSerializer,
)
from apps.performance.services import simulation, tuning
from apps.tokens.viewsets.scoping import audit_of


class OperatesAllSites(scope(read=Scope.OPERATE)):  # type: ignore[misc]  # made by a function
    """Limits concern every caller: they need `operate`, and a grant for all sites."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises NotAuthenticated or NotPermitted."""
        allowed = bool(super().has_permission(request, view))
        require_site(principal_of(request), None)
        return allowed


class OptimizeConcurrencyView(APIView):
    permission_classes = [OperatesAllSites]

    @extend_schema(request=OptimizeInput, responses=OptimizeOutput)
    def post(self, request: Request) -> Response:
        """Say what each limit should be and why; with `apply`, set them."""
        body = OptimizeInput(data=request.data)
        body.is_valid(raise_exception=True)
        found = tuning.analyze(window_s=body.validated_data["window_s"])
        applied: tuple[LimitChange, ...] = ()
        if body.validated_data["apply"]:
            wanted = {one.site or "*": one.recommended for one in found if one.changes}
            audit.record(audit_of(request, AuditKind.SETTINGS, details={"limits": wanted}))
            applied = tuning.apply(found, by=principal_of(request).name)
        return Response(OptimizeOutput({"recommendations": found, "applied": applied}).data)


class SimulateView(APIView):
    permission_classes = [OperatesAllSites]

    @extend_schema(request=SimulateInput, responses=SimulationOutput)
    def post(self, request: Request) -> Response:
        """Say what waits and failures would have been under other limits."""
        body = SimulateInput(data=request.data)
        body.is_valid(raise_exception=True)
        found = simulation.simulate(body.limits(), body.validated_data["window_s"])
        return Response(SimulationOutput(asdict(found)).data)


class LimitChangeViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[LimitChange]):
    """Every change that tuning made to a limit, the newest first."""

    permission_classes = [OperatesAllSites]
    serializer_class = LimitChangeOutput
    filterset_fields = {"site": ["exact"], "automatic": ["exact"], "at": ["gte", "lt"]}
    ordering_fields = ["at", "site"]
    ordering = ["-at"]
    queryset = LimitChange.objects.all()

    @extend_schema(request=None, responses=LimitChangeOutput)
    @action(detail=True, methods=["post"])
    def revert(self, request: Request, *_: Any, **__: Any) -> Response:
        """Put back what was before, unless the limit was changed since."""
        row = self.get_object()
        audit.record(
            audit_of(request, AuditKind.SETTINGS, site=row.site, details={"reverts": row.pk})
        )
        made = tuning.revert(row, by=principal_of(request).name)
        return Response(LimitChangeOutput(made).data)


class TuningBoundsViewSet(ModelViewSet[TuningBounds]):
    """Between which limits tuning may move, and whether by itself."""

    permission_classes = [OperatesAllSites]
    serializer_class = TuningBoundsSerializer
    filterset_fields = {"site__slug": ["exact"], "automatic": ["exact"]}
    ordering_fields = ["site__slug", "highest"]
    ordering = ["site__slug"]
    queryset = TuningBounds.objects.select_related("site")

    def perform_create(self, serializer: BaseSerializer[TuningBounds]) -> None:
        self._save(serializer)

    def perform_update(self, serializer: BaseSerializer[TuningBounds]) -> None:
        self._save(serializer)

    def perform_destroy(self, instance: TuningBounds) -> None:
        slug = instance.site.slug if instance.site else ""
        details = {"tuning_bounds": "deleted"}
        audit.record(audit_of(self.request, AuditKind.SETTINGS, site=slug, details=details))
        instance.delete()

    def _save(self, serializer: BaseSerializer[TuningBounds]) -> None:
        site = serializer.validated_data.get("site")
        details = {
            name: value for name, value in serializer.validated_data.items() if name != "site"
        }
        slug = site.slug if site else ""
        audit.record(audit_of(self.request, AuditKind.SETTINGS, site=slug, details=details))
        serializer.save()
