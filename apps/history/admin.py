"""The history in the admin: facts, read-only."""

from typing import Any

from django.contrib import admin
from django.db.models import Min, QuerySet
from django.http import HttpRequest, HttpResponseBase
from unfold.admin import ModelAdmin

from apps.common.pagination import BoundedPaginator
from apps.history.drilldown import DrillDown
from apps.history.export import lines
from apps.history.filters import search
from apps.history.models import (
    DayCell,
    HourCell,
    MonthCell,
    Rollup,
    Spread,
    StatusCell,
    TokenAcquisitionHistory,
)
from apps.history.viewsets import download

MOST_CHOICES = 100


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Shows rows and changes none."""

    show_full_result_count = False
    paginator = BoundedPaginator

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SiteFilter(admin.SimpleListFilter):
    """The sites there are, found by leaping from one to the next along the index."""

    title = "site"
    parameter_name = "site"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        rows = TokenAcquisitionHistory.objects.order_by()
        site = rows.aggregate(first=Min("site"))["first"]
        while site is not None and len(found) < MOST_CHOICES:
            found.append((site, site))
            site = rows.filter(site__gt=site).aggregate(first=Min("site"))["first"]
        return found

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(site=self.value()) if self.value() else queryset


class ReasonFilter(admin.SimpleListFilter):
    """Why the token was asked for."""

    title = "trigger reason"
    parameter_name = "trigger_reason"
    reasons = ("no_token", "token_expired", "refresh_ahead", "rejected", "manual", "warm_up")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(reason, reason) for reason in self.reasons]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(trigger_reason=self.value()) if self.value() else queryset


@admin.register(TokenAcquisitionHistory)
class HistoryAdmin(ReadOnlyAdmin):
    """Finished acquisitions, with filters, search, days to drill into, and export."""

    list_display = [
        "finished_at",
        "site",
        "account",
        "status",
        "trigger_reason",
        "attempts",
        "seconds",
        "error_code",
    ]
    list_filter = [SiteFilter, "status", ReasonFilter]
    search_fields = ["site", "account", "error_code", "error_message"]
    search_help_text = "A request id; or part of a site, account or error of the last 31 days."
    date_hierarchy = "finished_at"
    sortable_by = ["finished_at"]
    actions = ["export_csv", "export_jsonl"]
    list_per_page = 50

    @admin.display(description="Seconds")
    def seconds(self, row: TokenAcquisitionHistory) -> str:
        return f"{row.total_s:.1f}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return DrillDown(TokenAcquisitionHistory).order_by("-finished_at", "-id")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        bounded = any(name.startswith("finished_at") for name in request.GET)
        return search(queryset, search_term, bounded=bounded), False

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: Any) -> HttpResponseBase:
        return download(lines(queryset, "csv"), "csv")

    @admin.action(description="Export as JSON lines", permissions=["view"])
    def export_jsonl(self, request: HttpRequest, queryset: Any) -> HttpResponseBase:
        return download(lines(queryset, "jsonl"), "jsonl")


@admin.register(HourCell, DayCell, MonthCell, StatusCell)
class CellAdmin(ReadOnlyAdmin):
    """Sums over closed periods."""

    list_display = ["__str__", "attempts", "retries", "total_sum", "total_min", "total_max"]
    ordering = ["-period", "site"]
    search_fields = ["site"]


@admin.register(Spread, Rollup)
class PeriodAdmin(ReadOnlyAdmin):
    """Which periods are added up, and how their times are spread."""

    list_display = ["__str__", "level", "period"]
    list_filter = ["level"]
    ordering = ["-period"]
