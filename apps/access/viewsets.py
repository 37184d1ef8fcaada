"""Own keys and the audit, over HTTP."""

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from apps.access import services
from apps.access.contracts import ANY_SITE, Principal, Scope
from apps.access.filters import AuditFilter, KeyFilter
from apps.access.models import ApiKey, AuditEntry
from apps.access.permissions import scope
from apps.access.serializers import AuditOutput, IssuedKeyOutput, KeyInput, KeyOutput
from apps.common.pagination import LongPages


class KeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[ApiKey]):
    """The caller's own keys: those of the user behind the key or session."""

    permission_classes = [scope(read=Scope.KEYS_WRITE)]
    queryset = ApiKey.objects.select_related("user").prefetch_related("grants")
    serializer_class = KeyOutput
    filterset_class = KeyFilter
    ordering_fields = ["created_at", "name", "expires_at", "last_used_at"]
    ordering = ["-created_at", "id"]

    def get_queryset(self) -> QuerySet[ApiKey]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return super().get_queryset().filter(user_id=services.principal_of(self.request).user_id)

    @extend_schema(request=KeyInput, responses={201: IssuedKeyOutput})
    def create(self, request: Request) -> Response:
        """Make a key. It gets no scope, grant, time or rate that the caller does not have."""
        body = KeyInput(data=request.data)
        body.is_valid(raise_exception=True)
        principal = services.principal_of(request)
        key, raw = services.issue_key(
            user_id=principal.user_id,
            issuer=principal,
            remote_address=request.META.get("REMOTE_ADDR", ""),
            **body.wanted(),
        )
        answer = Response({**KeyOutput(key).data, "key": raw}, status=status.HTTP_201_CREATED)
        answer["Cache-Control"] = "no-store"
        return answer

    @extend_schema(request=None, responses={200: KeyOutput})
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """Revoke a key for good; it stays in the list. Doing it again changes nothing."""
        key = self.get_object()
        services.revoke_key(
            key,
            by=services.principal_of(request),
            remote_address=request.META.get("REMOTE_ADDR", ""),
        )
        key.refresh_from_db()
        return Response(KeyOutput(key).data)


class AuditViewSet(mixins.ListModelMixin, GenericViewSet[AuditEntry]):
    """What was done with the tokens of the sites the caller has grants for."""

    permission_classes = [scope(read=Scope.AUDIT_READ)]
    queryset = AuditEntry.objects.all()
    serializer_class = AuditOutput
    pagination_class = LongPages
    filterset_class = AuditFilter
    ordering_fields = ["at", "kind", "site", "account", "key_prefix"]
    ordering = ["-at", "-id"]

    def get_queryset(self) -> QuerySet[AuditEntry]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return super().get_queryset().filter(_visible_to(services.principal_of(self.request)))


def _visible_to(principal: Principal) -> Q:
    """What a caller did itself, and what happened to the accounts its grants name.

    A grant by label shows nothing: which labels an account had then is not in the audit.
    """
    visible = Q(principal_kind=principal.kind, principal_id=principal.id)
    for grant in principal.grants:
        if grant.label:
            continue
        if grant.site == ANY_SITE and not grant.account:
            return Q()
        part = Q() if grant.site == ANY_SITE else Q(site=grant.site)
        visible |= part & Q(account=grant.account) if grant.account else part
    return visible
