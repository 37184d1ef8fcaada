"""Filters on the lists of the API."""

import django_filters

from apps.performance.models import MetricBucket, MetricReset, SystemSample


class MetricBucketFilter(django_filters.FilterSet):  # type: ignore[misc]  # it ships no types
    since = django_filters.IsoDateTimeFilter(field_name="minute", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="minute", lookup_expr="lt")

    class Meta:
        model = MetricBucket
        fields = ["metric", "site", "label", "resolution"]


class SystemSampleFilter(django_filters.FilterSet):  # type: ignore[misc]
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = SystemSample
        fields = ["role", "host", "pid"]


class MetricResetFilter(django_filters.FilterSet):  # type: ignore[misc]
    class Meta:
        model = MetricReset
        fields = ["by"]
