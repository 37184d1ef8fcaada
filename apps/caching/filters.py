"""Filters on the lists of the API."""

import django_filters

from apps.caching.models import CachePolicy, CacheUsage


class CachePolicyFilter(django_filters.FilterSet):  # type: ignore[misc]
    class Meta:
        model = CachePolicy
        fields = {"namespace": ["exact", "in", "startswith"], "secret": ["exact"]}


class CacheUsageFilter(django_filters.FilterSet):  # type: ignore[misc]
    since = django_filters.IsoDateTimeFilter(field_name="minute", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="minute", lookup_expr="lt")

    class Meta:
        model = CacheUsage
        fields = {"namespace": ["exact", "in"], "layer": ["exact"]}
