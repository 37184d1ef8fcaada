"""Measurements are facts: they are looked at, not changed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.performance import (
    alert_admin,  # noqa: F401 - its pages register when it is imported
    tuning_admin,  # noqa: F401 - registers its own
)
from apps.performance.models import MetricBucket, MetricReset, SystemSample


class FactsAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Read-only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(MetricBucket)
class MetricBucketAdmin(FactsAdmin):
    list_display = ["minute", "resolution", "metric", "site", "label", "bucket", "n", "min", "max"]
    list_filter = ["resolution", "metric", "site"]
    # Counting a million rows for each page would be the slowest query of the admin.
    show_full_result_count = False


@admin.register(MetricReset)
class MetricResetAdmin(FactsAdmin):
    list_display = ["since", "by"]


@admin.register(SystemSample)
class SystemSampleAdmin(FactsAdmin):
    list_display = [
        "at", "role", "host", "pid", "cpu_percent", "memory_percent", "process_cpu_percent",
        "rss_bytes", "threads", "database_connections", "redis", "queue_depth", "in_flight",
    ]  # fmt: skip
    list_filter = ["role", "host", "at"]
    show_full_result_count = False
