"""Policies may be changed here; usage and generations are facts."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from apps.caching import services
from apps.caching.models import CacheGeneration, CachePolicy, CacheUsage
from apps.caching.signals import announce


class _FactsAdmin(ModelAdmin):  # type: ignore[misc]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(CachePolicy)
class CachePolicyAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "namespace", "ttl_s", "l1_ttl_s", "l1_entries", "negative_ttl_s", "stale_if_error_s",
        "secret", "updated_at",
    ]  # fmt: skip
    list_filter = ["secret"]
    search_fields = ["namespace"]
    actions = ["clear_namespaces"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["updated_at"] if obj is None else ["namespace", "updated_at"]

    def save_model(self, request: HttpRequest, obj: CachePolicy, form: Any, change: bool) -> None:
        """Save the policy, announced first."""
        values = {name: form.cleaned_data[name] for name in form.changed_data}
        values.pop("namespace", None)
        done = {"changed" if change else "created": values}
        announce(request, cache_policy=obj.namespace, **done)
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: CachePolicy) -> None:
        """Delete the policy, announced first."""
        announce(request, cache_policy=obj.namespace, deleted=True)
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[CachePolicy]) -> None:
        """Delete the chosen policies one by one."""
        for policy in queryset:
            self.delete_model(request, policy)

    @admin.action(description=_("Clear these namespaces"), permissions=["change"])
    def clear_namespaces(self, request: HttpRequest, queryset: QuerySet[CachePolicy]) -> None:
        for policy in queryset:
            announce(request, cleared=policy.namespace)
            services.clear(policy.namespace)
        self.message_user(request, _("%d namespaces cleared.") % len(queryset))


@admin.register(CacheUsage)
class CacheUsageAdmin(_FactsAdmin):
    list_display = [
        "minute", "namespace", "layer", "hits", "misses", "negative_hits", "stale_served", "loads",
        "errors", "evictions", "entries", "bytes",
    ]  # fmt: skip
    list_filter = ["layer", "namespace", "minute"]
    date_hierarchy = "minute"


@admin.register(CacheGeneration)
class CacheGenerationAdmin(_FactsAdmin):
    list_display = ["namespace", "changed_at"]
    fields = ["namespace", "changed_at"]
    search_fields = ["namespace"]
