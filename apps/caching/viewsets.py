"""Policies and usage over HTTP."""

from typing import Any

from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS, DjangoModelPermissions
from rest_framework.request import Request
from rest_framework.response import Response

from apps.caching import services
from apps.caching.filters import CachePolicyFilter, CacheUsageFilter
from apps.caching.models import CachePolicy, CacheUsage
from apps.caching.serializers import CachePolicyInput, CachePolicyOutput, CacheUsageOutput
from apps.caching.signals import announce
from apps.common.pagination import LongPages


class OperatorsOnly(DjangoModelPermissions):
    """A key needs the scope `operate`, and a grant for all sites for what it changes; a person the
    Django permission of the method."""

    perms_map = DjangoModelPermissions.perms_map | {
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
    }

    def has_permission(self, request: Request, view: Any) -> bool:
        # Asked of what the key's check left behind: this app does not know the app of the keys.
        key: Any = request.auth
        if not hasattr(key, "has"):
            return bool(super().has_permission(request, view))
        reads = request.method in SAFE_METHODS
        return bool(key.has("operate") and (reads or key.may_read(site="*", account="")))


class CachePolicyViewSet(viewsets.ModelViewSet[CachePolicy]):
    """How each namespace caches. A change is applied by every process within seconds."""

    queryset = CachePolicy.objects.all()
    permission_classes = [OperatorsOnly]
    filterset_class = CachePolicyFilter
    ordering_fields = ["namespace", "ttl_s", "l1_ttl_s", "updated_at"]
    ordering = ["namespace"]
    lookup_field = "namespace"
    serializer_class = CachePolicyOutput

    def get_serializer_class(self) -> Any:
        writes = self.action in {"create", "update", "partial_update"}
        return CachePolicyInput if writes else CachePolicyOutput

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = CachePolicyInput(data=request.data)
        body.is_valid(raise_exception=True)
        announce(request, cache_policy=body.validated_data["namespace"], created=_plain(body))
        return Response(CachePolicyOutput(body.save()).data, status=status.HTTP_201_CREATED)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        partial = bool(kwargs.get("partial"))
        body = CachePolicyInput(self.get_object(), data=request.data, partial=partial)
        body.is_valid(raise_exception=True)
        announce(request, cache_policy=self.kwargs["namespace"], changed=_plain(body))
        return Response(CachePolicyOutput(body.save()).data)

    def perform_destroy(self, instance: CachePolicy) -> None:
        announce(self.request, cache_policy=instance.namespace, deleted=True)
        instance.delete()

    @action(detail=True, methods=["delete"])
    def values(self, request: Request, namespace: str) -> Response:
        """Forget everything cached in this namespace."""
        policy = self.get_object()
        announce(request, cleared=policy.namespace)
        services.clear(policy.namespace)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _plain(body: CachePolicyInput) -> dict[str, Any]:
    return {name: value for name, value in body.validated_data.items() if name != "namespace"}


class CacheUsageViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[CacheUsage]
):
    """What each layer of each namespace did, minute by minute, in the whole cluster."""

    queryset = CacheUsage.objects.all()
    permission_classes = [OperatorsOnly]
    serializer_class = CacheUsageOutput
    pagination_class = LongPages
    filterset_class = CacheUsageFilter
    ordering_fields = ["minute", "namespace", "layer", "hits", "misses", "loads", "errors"]
    ordering = ["-minute", "-namespace", "-layer"]
