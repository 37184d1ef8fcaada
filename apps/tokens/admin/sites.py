"""Sites and the general limits."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord, Scope
from apps.access.selectors import principal_of_user
from apps.common.clock import database_now
from apps.common.request_context import current_request_id
from apps.tokens.admin.forms import SiteForm
from apps.tokens.admin.warming import warm_up
from apps.tokens.models import AdmissionLimits, Site, StoredToken
from apps.tokens.services import sites


@admin.register(Site)
class SiteAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    form = SiteForm
    list_display = [
        "slug", "name", "connector", "enabled", "warm", "max_concurrent", "updated_at",
    ]  # fmt: skip
    list_filter = ["enabled", "connector", "strategy"]
    search_fields = ["slug", "name"]
    actions = ["warm_up", "pause", "resume"]
    readonly_fields = ["token_serial", "observed_ttl_s", "created_at", "updated_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Site]:
        """Count the accounts and those with a usable token in the query of the list."""
        rows: QuerySet[Site] = super().get_queryset(request)
        usable = StoredToken.objects.usable(at=database_now()).values("account")
        there = Q(accounts__enabled=True)
        return rows.annotate(
            there=Count("accounts", filter=there),
            usable=Count("accounts", filter=there & Q(accounts__in=usable)),
        )

    @admin.display(description="Warm")
    def warm(self, site: Any) -> str:
        return f"{site.usable} of {site.there}"

    def get_readonly_fields(self, request: HttpRequest, obj: Site | None = None) -> list[str]:
        """Saying where passwords may be sent is a permission of its own."""
        fields = list(self.readonly_fields)
        return fields if _may_set_hosts(request) else [*fields, "allowed_hosts"]

    def save_model(self, request: HttpRequest, obj: Site, form: Any, change: bool) -> None:
        before = Site.objects.filter(pk=obj.pk).first()
        if url := form.cleaned_data["proxy_url"]:
            obj.proxy = url
        hosts_before = before.allowed_hosts if before else []
        if obj.allowed_hosts != hosts_before:
            _audit_hosts(request, obj, hosts_before)
        sites.save(obj)

    @admin.action(description="Warm up: queue the logins that are missing", permissions=["operate"])
    def warm_up(self, request: HttpRequest, queryset: QuerySet[Site]) -> None:
        warm_up(request, [site.slug for site in queryset])

    @admin.action(description="Pause: nothing logs in", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Site]) -> None:
        self._set_paused(request, queryset, paused=True)

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Site]) -> None:
        self._set_paused(request, queryset, paused=False)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return principal_of_user(request.user).has(Scope.OPERATE)

    def _set_paused(self, request: HttpRequest, queryset: QuerySet[Site], *, paused: bool) -> None:
        for site in queryset:
            audit.record(_record(request, site.slug, {"paused": paused}))
        changed = queryset.update(paused=paused, paused_until=None)
        messages.success(request, f"{changed} sites {'paused' if paused else 'resumed'}.")

    def delete_model(self, request: HttpRequest, obj: Site) -> None:
        sites.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for site in queryset:
            sites.remove(site)


@admin.register(AdmissionLimits)
class AdmissionLimitsAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    list_display = [
        "__str__",
        "max_concurrent",
        "max_concurrent_per_site",
        "acquisition_timeout_s",
        "queue_timeout_s",
        "lease_s",
        "max_attempts",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and not AdmissionLimits.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: AdmissionLimits, form: Any, change: bool
    ) -> None:
        obj.pk = 1
        details = {name: form.cleaned_data[name] for name in form.changed_data}
        audit.record(_record(request, "", details))
        super().save_model(request, obj, form, change)


def _may_set_hosts(request: HttpRequest) -> bool:
    return principal_of_user(request.user).has(Scope.HOSTS_WRITE)


def _audit_hosts(request: HttpRequest, site: Site, before: list[str]) -> None:
    details = {"allowed_hosts_before": before, "allowed_hosts_after": site.allowed_hosts}
    audit.record(_record(request, site.slug, details))


def _record(request: HttpRequest, site: str, details: dict[str, Any]) -> AuditRecord:
    return AuditRecord.by(
        principal_of_user(request.user),
        kind=AuditKind.SETTINGS,
        site=site,
        details=details,
        request_id=current_request_id(),
        remote_address=request.META.get("REMOTE_ADDR", ""),
    )
