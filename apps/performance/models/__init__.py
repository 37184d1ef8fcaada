"""The rows of the performance app."""

from apps.performance.models.buckets import MetricBucket, MetricReset, Resolution
from apps.performance.models.samples import SystemSample

__all__ = ["MetricBucket", "MetricReset", "Resolution", "SystemSample"]
