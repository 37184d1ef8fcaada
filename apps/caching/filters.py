"""Filters on the lists of the API."""

from apps.caching.models import CachePolicy, CacheUsage
from apps.common.moments import FilterSet, MomentFilter


class CachePolicyFilter(FilterSet):
    class Meta:
        model = CachePolicy
        fields = {"namespace": ["exact", "in", "startswith"], "secret": ["exact"]}


class CacheUsageFilter(FilterSet):
    since = MomentFilter(field_name="minute", lookup_expr="gte")
    until = MomentFilter(field_name="minute", lookup_expr="lt")

    class Meta:
        model = CacheUsage
        fields = {"namespace": ["exact", "in"], "layer": ["exact"]}
