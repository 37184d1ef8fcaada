"""Alerts over HTTP. What tells strangers about every site needs a grant for every site."""

from typing import Any, Final

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from apps.access import audit
from apps.access.contracts import ANY_SITE, AuditKind, Principal, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of
from apps.common.clock import database_now
from apps.performance.alert_filters import (
    AlertFilter,
    AlertRuleFilter,
    ChannelFilter,
    DeliveryFilter,
)
from apps.performance.models import Alert, AlertRule, NotificationChannel, NotificationDelivery
from apps.performance.permissions import require_site
from apps.performance.serializers.alerts import (
    AcknowledgeInput,
    AlertOutput,
    AlertRuleInput,
    AlertRuleOutput,
    ChannelInput,
    ChannelOutput,
    DeliveryOutput,
    TestOutput,
)
from apps.performance.services import alerting, evaluation, notification
from apps.tokens.viewsets.scoping import audit_of


class ForAllSites(BasePermission):
    """Lets in who has a grant for all sites."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises NotPermitted."""
        require_site(principal_of(request), None)
        return True


EVERYWHERE: Final[list[type[BasePermission]]] = [scope(read=Scope.OPERATE), ForAllSites]


class _Settings(ModelViewSet[Any]):
    """Rows that people set: input and output apart, every change in the audit."""

    permission_classes = EVERYWHERE
    input_class: type[BaseSerializer[Any]]
    output_class: type[BaseSerializer[Any]]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.output_class if self.request.method == "GET" else self.input_class

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "by": principal_of(self.request).name}

    def create(self, request: Request, *_: Any, **__: Any) -> Response:
        body = self.get_serializer(data=request.data)
        return self._save(body, status.HTTP_201_CREATED)

    def update(self, request: Request, *_: Any, **options: Any) -> Response:
        partial = bool(options.get("partial", False))
        body = self.get_serializer(self.get_object(), data=request.data, partial=partial)
        return self._save(body, status.HTTP_200_OK)

    def perform_destroy(self, instance: Any) -> None:
        self._audit(str(instance), {"deleted": True})
        instance.delete()

    def _save(self, body: BaseSerializer[Any], code: int) -> Response:
        body.is_valid(raise_exception=True)
        row = body.save()
        self._audit(str(row), {"changed": sorted(body.validated_data)})
        return Response(self.output_class(row).data, status=code)

    def _audit(self, name: str, details: dict[str, Any]) -> None:
        what = {self.basename: name, **details}
        audit.record(audit_of(self.request, AuditKind.SETTINGS, details=what))


@extend_schema_view(
    create=extend_schema(request=AlertRuleInput, responses={201: AlertRuleOutput}),
    update=extend_schema(request=AlertRuleInput, responses=AlertRuleOutput),
    partial_update=extend_schema(request=AlertRuleInput, responses=AlertRuleOutput),
)
class AlertRuleViewSet(_Settings):
    """When to raise an alert. A change holds from the next minute on."""

    filterset_class = AlertRuleFilter
    ordering_fields = ["name", "metric", "severity", "threshold", "updated_at"]
    ordering = ["name"]
    queryset = AlertRule.objects.all()
    input_class, output_class = AlertRuleInput, AlertRuleOutput

    def perform_destroy(self, instance: AlertRule) -> None:
        evaluation.begin_anew(instance, by=principal_of(self.request).name)
        super().perform_destroy(instance)


@extend_schema_view(
    create=extend_schema(request=ChannelInput, responses={201: ChannelOutput}),
    update=extend_schema(request=ChannelInput, responses=ChannelOutput),
    partial_update=extend_schema(request=ChannelInput, responses=ChannelOutput),
)
class ChannelViewSet(_Settings):
    """Who is told. Addresses and secrets go in and never come out."""

    filterset_class = ChannelFilter
    ordering_fields = ["name", "kind", "last_success_at", "last_failure_at", "updated_at"]
    ordering = ["name"]
    queryset = NotificationChannel.objects.all()
    input_class, output_class = ChannelInput, ChannelOutput

    @extend_schema(request=None, responses=TestOutput)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, **_: Any) -> Response:
        """Send a test notice now and say whether it was taken."""
        channel = self.get_object()
        self._audit(channel.name, {"tested": True})
        error = notification.send_test(channel, by=principal_of(request).name)
        return Response(TestOutput({"delivered": not error, "error": error}).data)


class AlertViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Alert]):
    """Alerts of the sites the caller has grants for; those over all sites need a grant for all."""

    permission_classes = [scope(read=Scope.OPERATE)]
    serializer_class = AlertOutput
    filterset_class = AlertFilter
    ordering_fields = ["opened_at", "resolved_at", "severity", "site", "seen_at"]
    ordering = ["-opened_at", "-id"]
    queryset = Alert.objects.all()

    def get_queryset(self) -> QuerySet[Alert]:
        return _visible(super().get_queryset(), principal_of(self.request))

    @extend_schema(request=AcknowledgeInput, responses=AlertOutput)
    @action(detail=True, methods=["post"], filterset_class=None)
    def acknowledge(self, request: Request, **_: Any) -> Response:
        """Note that you know; it stays open. Of several, the first counts."""
        body = AcknowledgeInput(data=request.data)
        body.is_valid(raise_exception=True)
        row, at = self.get_object(), database_now()
        alerting.acknowledge(
            row, by=principal_of(request).name, at=at, note=body.validated_data["note"]
        )
        return self._shown(row)

    @extend_schema(request=None, responses=AlertOutput)
    @action(detail=True, methods=["post"], filterset_class=None)
    def resolve(self, request: Request, **_: Any) -> Response:
        """End it by hand. If its cause lasts, another is opened within minutes."""
        row, who = self.get_object(), principal_of(request).name
        alerting.resolve(row, at=database_now(), reason=alerting.BY_HAND, by=who)
        return self._shown(row)

    def _shown(self, row: Alert) -> Response:
        row.refresh_from_db()
        return Response(AlertOutput(row).data)


class DeliveryViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[NotificationDelivery]):
    """Notices: what was sent to whom, and what became of it. Kept for 30 days."""

    permission_classes = EVERYWHERE
    serializer_class = DeliveryOutput
    filterset_class = DeliveryFilter
    ordering_fields = ["created_at", "finished_at", "attempts"]
    ordering = ["-created_at"]
    queryset = NotificationDelivery.objects.select_related("channel")

    @extend_schema(request=None, responses=DeliveryOutput)
    @action(detail=True, methods=["post"], filterset_class=None)
    def retry(self, request: Request, **_: Any) -> Response:
        """Try one that was given up again, from the beginning."""
        row = self.get_object()
        notification.retry(row.pk)
        row.refresh_from_db()
        return Response(DeliveryOutput(row).data)


def _visible(rows: QuerySet[Alert], principal: Principal) -> QuerySet[Alert]:
    if principal.may_read(site=ANY_SITE, account=""):
        return rows
    whole = [g.site for g in principal.grants if not g.account and not g.label]
    return rows.filter(Q(site__in=whole) & ~Q(site=""))
