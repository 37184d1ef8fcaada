"""The tuning in the admin: bounds are edited, changes are looked at and taken back."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord
from apps.access.selectors import principal_of_user
from apps.common.errors import BrokerError
from apps.common.request_context import current_request_id
from apps.performance.models import LimitChange, TuningBounds, TuningState, UpkeepLease
from apps.performance.services import tuning
from apps.tokens.admin.base import FactsAdmin


@admin.register(TuningBounds)
class TuningBoundsAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    list_display = ["__str__", "automatic", "lowest", "highest"]
    list_filter = ["automatic"]
    list_select_related = ["site"]

    def save_model(self, request: HttpRequest, obj: TuningBounds, form: Any, change: bool) -> None:
        """Save the bounds, with a line in the audit."""
        details = {"automatic": obj.automatic, "lowest": obj.lowest, "highest": obj.highest}
        audit.record(_record(request, obj.site.slug if obj.site else "", details))
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: TuningBounds) -> None:
        """Delete the bounds, with a line in the audit."""
        details = {"tuning_bounds": "deleted"}
        audit.record(_record(request, obj.site.slug if obj.site else "", details))
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[TuningBounds]) -> None:
        for row in queryset:
            self.delete_model(request, row)


@admin.register(TuningState)
class TuningStateAdmin(FactsAdmin):
    list_display = ["site", "version", "read_to"]
    list_select_related = ["site"]


@admin.register(LimitChange)
class LimitChangeAdmin(FactsAdmin):
    list_display = ["at", "site", "before", "after", "reason", "by", "automatic"]
    list_filter = ["automatic", "site"]
    date_hierarchy = "at"
    actions = ["revert_changes"]

    @admin.action(description="Take back", permissions=["revert"])
    def revert_changes(self, request: HttpRequest, queryset: QuerySet[LimitChange]) -> None:
        done = 0
        for row in queryset.order_by("-at"):
            audit.record(_record(request, row.site, {"reverts": row.pk}))
            try:
                tuning.revert(row, by=str(request.user))
                done += 1
            except BrokerError as error:
                messages.warning(request, f"{row}: {error.message}")
        messages.success(request, f"{done} changes taken back.")

    def has_revert_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("performance.change_limitchange"))


@admin.register(UpkeepLease)
class UpkeepLeaseAdmin(FactsAdmin):
    list_display = ["name", "host", "pid", "taken_at", "lease_until"]


def _record(request: HttpRequest, site: str, details: dict[str, Any]) -> AuditRecord:
    return AuditRecord.by(
        principal_of_user(request.user),
        kind=AuditKind.SETTINGS,
        site=site,
        details=details,
        request_id=current_request_id(),
        remote_address=request.META.get("REMOTE_ADDR", ""),
    )
