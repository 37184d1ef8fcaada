"""Sites and accounts. Changing where a site may talk to is a permission of its own."""

from typing import Any, Final

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer, ValidationError
from rest_framework.viewsets import ModelViewSet

from apps.access import audit
from apps.access.contracts import AuditKind, Scope
from apps.access.permissions import scope
from apps.access.services import principal_of, require
from apps.common.errors import NotPermitted
from apps.tokens.errors import UnknownSite
from apps.tokens.filters import AccountFilter, SiteFilter
from apps.tokens.models import Account, Site, SiteBreaker
from apps.tokens.models.breakers import BreakerState
from apps.tokens.serializers.explain import (
    AccountStatisticsOutput,
    BlockedOutput,
    BreakerInput,
    PauseInput,
    SiteBreakerOutput,
    SiteExplanationOutput,
)
from apps.tokens.serializers.rows import (
    AccountInput,
    AccountOutput,
    AllowAttemptInput,
    SiteInput,
    SiteOutput,
)
from apps.tokens.services import accounts, breaker, directory, explain, locks, sites
from apps.tokens.viewsets.scoping import audit_of, granted, granted_sites

# What the list of accounts reads.
SHOWN: Final = (
    *("site__slug", "secrets"),
    *(name for name in AccountOutput.Meta.fields if name not in ("site", "secret_names")),
)

OF_ACCOUNT: Final = [
    OpenApiParameter("account", str, description="only this account"),
    OpenApiParameter("ordering", str, description="a field of the answer, with - for downwards"),
]


class _WriteThenShow:
    """Answers a write with the output serializer's view of the saved row."""

    output_class: type[BaseSerializer[Any]]

    def create(self, request: Request, *_: Any, **__: Any) -> Response:
        body = self.get_serializer(data=request.data)  # type: ignore[attr-defined]
        body.is_valid(raise_exception=True)
        self.perform_create(body)  # type: ignore[attr-defined]
        return Response(self._shown(body.instance), status=status.HTTP_201_CREATED)

    def update(self, request: Request, *_: Any, **options: Any) -> Response:
        partial = bool(options.get("partial", False))
        row = self.get_object()  # type: ignore[attr-defined]
        body = self.get_serializer(row, data=request.data, partial=partial)  # type: ignore[attr-defined]
        body.is_valid(raise_exception=True)
        self.perform_update(body)  # type: ignore[attr-defined]
        return Response(self._shown(body.instance))

    def _shown(self, row: Any) -> Any:
        fresh = self.get_queryset().get(pk=row.pk)  # type: ignore[attr-defined]
        return self.output_class(fresh).data


@extend_schema_view(
    create=extend_schema(request=SiteInput, responses={201: SiteOutput}),
    update=extend_schema(request=SiteInput, responses=SiteOutput),
    partial_update=extend_schema(request=SiteInput, responses=SiteOutput),
)
class SiteViewSet(_WriteThenShow, ModelViewSet[Site]):
    """Sites that the caller has grants for, by slug.

    A grant for some accounts of a site is enough to see its configuration; to change it, and to
    see what names the other accounts, the grant must cover the whole site.
    """

    permission_classes = [scope(read=Scope.SITES_READ, write=Scope.SITES_WRITE)]
    filterset_class = SiteFilter
    ordering_fields = ["slug", "created_at", "updated_at"]
    ordering = ["slug"]
    lookup_field = "slug"
    output_class = SiteOutput
    queryset = Site.objects.all()

    def get_queryset(self) -> QuerySet[Site]:
        rows = Site.objects.with_counts()
        whole = self.action not in ("list", "retrieve")
        return granted_sites(rows, principal_of(self.request), whole=whole)

    def get_serializer_class(self) -> type[BaseSerializer[Site]]:
        return SiteOutput if self.request.method == "GET" else SiteInput

    def perform_create(self, serializer: BaseSerializer[Site]) -> None:
        self._guard_slug(serializer)
        self._guard_hosts(serializer, before=[])
        serializer.save()

    def perform_update(self, serializer: BaseSerializer[Site]) -> None:
        before = serializer.instance.allowed_hosts if serializer.instance else []
        self._guard_slug(serializer)
        self._guard_hosts(serializer, before=before)
        serializer.save()

    def perform_destroy(self, instance: Site) -> None:
        sites.remove(instance)

    @extend_schema(responses=SiteExplanationOutput)
    @action(detail=True, methods=["get"], filterset_class=None)
    def explain(self, request: Request, **_: Any) -> Response:
        """Say what holds the site's logins back, and what would run next as which account."""
        return Response(SiteExplanationOutput(explain.site(self.get_object())).data)

    @extend_schema(parameters=OF_ACCOUNT, responses=BlockedOutput(many=True))
    @action(detail=True, methods=["get"], filterset_class=None)
    def blacklist(self, request: Request, **_: Any) -> Response:
        """List the accounts that may not log in now, why, and until when."""
        return self._page(directory.blacklist(self.get_object().slug), BlockedOutput)

    @extend_schema(parameters=OF_ACCOUNT, responses=AccountStatisticsOutput(many=True))
    @action(detail=True, methods=["get"], filterset_class=None)
    def statistics(self, request: Request, **_: Any) -> Response:
        """Count each account's successes and failures."""
        return self._page(directory.statistics(self.get_object().slug), AccountStatisticsOutput)

    def _page(self, rows: list[dict[str, Any]], output: type[Serializer[Any]]) -> Response:
        """Answer with a page of plain rows by account, or by the field that is asked for."""
        wanted = self.request.query_params.get("account")
        rows = [row for row in rows if wanted in (None, row["account"])]
        order = self.request.query_params.get("ordering", "account")
        field = order.removeprefix("-")
        if field in output().fields:
            # What has no value comes last, in either direction.
            known = [row for row in rows if row[field] is not None]
            known.sort(key=lambda row: row[field], reverse=order.startswith("-"))
            rows = known + [row for row in rows if row[field] is None]
        return self.get_paginated_response(output(self.paginate_queryset(rows), many=True).data)

    @extend_schema(request=BreakerInput, responses=SiteBreakerOutput)
    @action(detail=True, methods=["post"])
    def breaker(self, request: Request, **_: Any) -> Response:
        """Force the site's breaker open or closed, or reset it (`closed`)."""
        body = BreakerInput(data=request.data)
        row = self._operated(request, body)
        with locks.admission() as at:
            state = BreakerState(body.validated_data["state"])
            breaker.force(row, state, at=at, by=principal_of(request).name)
        return Response(SiteBreakerOutput(SiteBreaker.objects.get(site=row)).data)

    @extend_schema(request=PauseInput, responses=SiteOutput)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, **_: Any) -> Response:
        """Stop all logins at the site, until a time or until it is resumed."""
        body = PauseInput(data=request.data)
        row = self._operated(request, body)
        Site.objects.filter(pk=row.pk).update(
            paused=True, paused_until=body.validated_data.get("until")
        )
        return Response(self._shown(row))

    @extend_schema(request=None, responses=SiteOutput)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **_: Any) -> Response:
        """Let the site log in again."""
        row = self._operated(request, PauseInput(data={}))
        Site.objects.filter(pk=row.pk).update(paused=False, paused_until=None)
        return Response(self._shown(row))

    def _operated(self, request: Request, body: BaseSerializer[Any]) -> Site:
        """Check the scope and the body of an operation, and write its audit line."""
        require(principal_of(request), Scope.OPERATE)
        body.is_valid(raise_exception=True)
        row: Site = self.get_object()
        details = {"operation": self.action, **body.validated_data}
        audit.record(audit_of(request, AuditKind.SETTINGS, site=row.slug, details=details))
        return row

    def _guard_slug(self, serializer: BaseSerializer[Site]) -> None:
        """Let nobody make, or rename to, a site that is not theirs."""
        slug = serializer.validated_data.get("slug")
        if slug and not principal_of(self.request).may_read(site=slug, account=""):
            raise NotPermitted("Your grants do not cover this site.", details={"site": slug})

    def _guard_hosts(self, serializer: BaseSerializer[Site], *, before: list[str]) -> None:
        """Need a scope of its own to say where passwords may be sent, and audit it."""
        after = serializer.validated_data.get("allowed_hosts", before)
        if after == before:
            return
        require(principal_of(self.request), Scope.HOSTS_WRITE)
        slug = serializer.validated_data.get("slug") or serializer.instance.slug  # type: ignore[union-attr]
        details = {"allowed_hosts_before": before, "allowed_hosts_after": after}
        audit.record(audit_of(self.request, AuditKind.SETTINGS, site=slug, details=details))


@extend_schema_view(
    create=extend_schema(request=AccountInput, responses={201: AccountOutput}),
    update=extend_schema(request=AccountInput, responses=AccountOutput),
    partial_update=extend_schema(request=AccountInput, responses=AccountOutput),
)
class AccountViewSet(_WriteThenShow, ModelViewSet[Account]):
    """Accounts of the sites the caller has grants for. Secrets go in and never come out."""

    permission_classes = [scope(read=Scope.SITES_READ, write=Scope.ACCOUNTS_WRITE)]
    filterset_class = AccountFilter
    ordering_fields = ["username", "created_at", "last_success_at", "success_count"]
    ordering = ["username"]
    output_class = AccountOutput
    queryset = Account.objects.select_related("site")

    def get_queryset(self) -> QuerySet[Account]:
        rows = super().get_queryset()
        if self.action == "list":
            # Of each account's site only its name is shown: leave its recipe where it is.
            rows = rows.only(*SHOWN)
        return granted(rows, principal_of(self.request), site="site")

    def get_serializer_class(self) -> type[BaseSerializer[Account]]:
        return AccountOutput if self.request.method == "GET" else AccountInput

    def perform_create(self, serializer: BaseSerializer[Account]) -> None:
        fields = serializer.validated_data
        site, labels = fields["site"].slug, fields.get("labels", ())
        if not principal_of(self.request).may_read(
            site=site, account=fields["username"], labels=labels
        ):
            raise UnknownSite
        if fields["site"].accounts.filter(username=fields["username"]).exists():
            raise ValidationError({"username": ["This site has this account."]})
        serializer.save()

    def perform_destroy(self, instance: Account) -> None:
        accounts.remove(instance)

    @extend_schema(request=AllowAttemptInput, responses={204: None})
    @action(detail=True, methods=["post"], url_path="allow-attempt")
    def allow_attempt(self, request: Request, **_: Any) -> Response:
        """Let the present secret be sent exactly once more although it is blocked."""
        principal = principal_of(request)
        require(principal, Scope.OPERATE)
        body = AllowAttemptInput(data=request.data)
        body.is_valid(raise_exception=True)
        account = self.get_object()
        reason = body.validated_data["reason"]
        audit.record(
            audit_of(
                request,
                AuditKind.ALLOW_ATTEMPT,
                site=account.site.slug,
                account=account.username,
                details={"reason": reason},
            )
        )
        accounts.allow_one_attempt(account, by=principal.name, reason=reason)
        return Response(status=status.HTTP_204_NO_CONTENT)
