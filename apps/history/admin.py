"""The history in the admin: facts, read-only."""

from typing import Any

from django.contrib import admin
from django.db.models import Min, QuerySet
from django.http import HttpRequest, HttpResponseBase
from unfold.admin import ModelAdmin

from apps.common.pagination import BoundedPaginator
from apps.history import periods
from apps.history.drilldown import DrillDown
from apps.history.export import lines
from apps.history.filters import search
from apps.history.models import (
    DayCell,
    HourCell,
    Level,
    MonthCell,
    Rollup,
    Spread,
    StatusCell,
    TokenAcquisitionHistory,
)
from apps.history.querysets import HistoryQuerySet
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


class LeapingFilter(admin.SimpleListFilter):
    """The values of a column there are, found by leaping from one to the next along its index."""

    def rows(self) -> HistoryQuerySet:
        return TokenAcquisitionHistory.objects.order_by()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        name, rows = self.parameter_name, self.rows()
        value = rows.aggregate(first=Min(name))["first"]
        while value is not None and len(found) < MOST_CHOICES:
            found.append((value, value))
            value = rows.filter(**{f"{name}__gt": value}).aggregate(first=Min(name))["first"]
        return found


class SiteFilter(LeapingFilter):
    """Whom the record is of."""

    title = "site"
    parameter_name = "site"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(site=self.value()) if self.value() else queryset


class ErrorFilter(LeapingFilter):
    """How it failed."""

    title = "error code"
    parameter_name = "error_code"

    def rows(self) -> HistoryQuerySet:
        return super().rows().exclude(error_code="")

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.with_error(self.value()) if self.value() else queryset


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
    list_filter = [SiteFilter, "status", ReasonFilter, ErrorFilter]
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


class PeriodAdmin(ReadOnlyAdmin):
    """Rows of a period, which is a number in the row and a date for people."""

    ordering = ["-period"]

    @admin.display(description="Period (UTC)", ordering="period")
    def when(self, row: Any) -> str:
        if isinstance(row, HourCell):
            return f"{periods.hour_start(row.period):%Y-%m-%d %H:00}"
        if isinstance(row, MonthCell) or getattr(row, "level", "") == Level.MONTH:
            return f"{periods.month_start(row.period):%Y-%m}"
        return f"{periods.day_start(row.period):%Y-%m-%d}"

    @admin.display(description="Site", ordering="site")
    def place(self, row: Any) -> str:
        return row.site or "all"


@admin.register(HourCell, DayCell, MonthCell, StatusCell)
class CellAdmin(PeriodAdmin):
    """Sums over closed periods."""

    ordering = ["-period", "site"]
    search_fields = ["site"]

    def get_list_display(self, request: HttpRequest) -> list[str]:
        fields = {field.name for field in self.opts.fields}
        own = [name for name in ("account", "status") if name in fields]
        sums = ["n", "success", "attempts", "retries", "sum_s", "shortest_s", "longest_s"]
        return ["when", "place", *own, *sums]

    @admin.display(description="Sum (s)", ordering="total_sum")
    def sum_s(self, row: Any) -> str:
        return f"{row.total_sum / 1000:,.1f}"

    @admin.display(description="Shortest (s)", ordering="total_min")
    def shortest_s(self, row: Any) -> str:
        return f"{row.total_min / 1000:,.1f}"

    @admin.display(description="Longest (s)", ordering="total_max")
    def longest_s(self, row: Any) -> str:
        return f"{row.total_max / 1000:,.1f}"


@admin.register(Spread)
class SpreadAdmin(PeriodAdmin):
    """How the times of a period are spread."""

    list_display = ["when", "level", "place"]
    list_filter = ["level"]


@admin.register(Rollup)
class RollupAdmin(PeriodAdmin):
    """Which periods are added up."""

    list_display = ["when", "level", "rolled_at"]
    list_filter = ["level"]
