"""Filters of the lists of rules, alerts, channels and notices."""

from typing import Any

import django_filters as filters
from django.db.models import QuerySet

from apps.common.filters import AnyOfFilter
from apps.common.moments import FilterSet, MomentFilter
from apps.performance.models import Alert, AlertRule, NotificationChannel, NotificationDelivery
from apps.performance.models.alerts import DeliveryStatus, Severity


class _SeverityFilter(filters.TypedMultipleChoiceFilter):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        choices = [(one.label, one.label) for one in Severity]
        super().__init__(choices=choices, coerce=lambda name: Severity[name.upper()], **options)


class AlertRuleFilter(FilterSet):
    name = filters.CharFilter(lookup_expr="icontains")
    severity = _SeverityFilter()

    class Meta:
        model = AlertRule
        fields = ["name", "metric", "site", "enabled", "severity"]


class AlertFilter(FilterSet):
    STATES = ("open", "acknowledged", "resolved")

    state = AnyOfFilter(choices=[(name, name) for name in STATES], method="of_state")
    severity = _SeverityFilter()
    opened_after = MomentFilter(field_name="opened_at", lookup_expr="gte")
    opened_before = MomentFilter(field_name="opened_at", lookup_expr="lt")

    class Meta:
        model = Alert
        fields = ["site", "rule", "metric", "severity"]

    def of_state(self, rows: QuerySet[Alert], _name: str, states: list[str]) -> QuerySet[Alert]:
        found = rows.none()
        if "open" in states:
            found |= rows.filter(resolved_at=None, acknowledged_at=None)
        if "acknowledged" in states:
            found |= rows.filter(resolved_at=None, acknowledged_at__isnull=False)
        if "resolved" in states:
            found |= rows.filter(resolved_at__isnull=False)
        return found if states else rows


class ChannelFilter(FilterSet):
    name = filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = NotificationChannel
        fields = ["name", "kind", "enabled", "site"]


class DeliveryFilter(FilterSet):
    status = AnyOfFilter(choices=DeliveryStatus.choices)
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")

    class Meta:
        model = NotificationDelivery
        fields = ["channel", "alert", "event", "status"]
