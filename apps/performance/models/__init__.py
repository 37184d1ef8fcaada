"""The rows of the performance app."""

from apps.performance.models.alerts import (
    Alert,
    AlertRule,
    AlertRuleState,
    NotificationChannel,
    NotificationDelivery,
    Turn,
)
from apps.performance.models.buckets import MetricBucket, MetricReset, Resolution
from apps.performance.models.samples import SystemSample

__all__ = [
    "Alert",
    "AlertRule",
    "AlertRuleState",
    "MetricBucket",
    "MetricReset",
    "NotificationChannel",
    "NotificationDelivery",
    "Resolution",
    "SystemSample",
    "Turn",
]
