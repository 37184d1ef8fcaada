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
from apps.performance.models.tuning import LimitChange, TuningBounds, TuningState
from apps.performance.models.upkeep import UpkeepLease

__all__ = [
    "Alert",
    "AlertRule",
    "AlertRuleState",
    "LimitChange",
    "MetricBucket",
    "MetricReset",
    "NotificationChannel",
    "NotificationDelivery",
    "Resolution",
    "SystemSample",
    "TuningBounds",
    "TuningState",
    "Turn",
    "UpkeepLease",
]
