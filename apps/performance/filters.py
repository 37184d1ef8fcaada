"""Filters on the lists of the API."""

from apps.common.moments import FilterSet, MomentFilter
from apps.performance.models import MetricBucket, MetricReset, SystemSample


class MetricBucketFilter(FilterSet):
    since = MomentFilter(field_name="minute", lookup_expr="gte")
    until = MomentFilter(field_name="minute", lookup_expr="lt")

    class Meta:
        model = MetricBucket
        fields = ["metric", "site", "label", "resolution"]


class SystemSampleFilter(FilterSet):
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = SystemSample
        fields = ["role", "host", "pid"]


class MetricResetFilter(FilterSet):
    class Meta:
        model = MetricReset
        fields = ["by"]
