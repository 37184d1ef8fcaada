"""Filters of the lists."""

from django_filters import rest_framework as filters

from apps.access.models import ApiKey, AuditEntry
from apps.common.moments import FilterSet, MomentFilter


class KeyFilter(FilterSet):
    revoked = filters.BooleanFilter(
        field_name="revoked_at", lookup_expr="isnull", exclude=True, label="Revoked or not."
    )

    class Meta:
        model = ApiKey
        fields = ["name", "prefix", "revoked"]


class AuditFilter(FilterSet):
    key = filters.CharFilter(field_name="key_prefix", label="Prefix of the key.")
    since = MomentFilter(field_name="at", lookup_expr="gte", label="Not before.")
    until = MomentFilter(field_name="at", lookup_expr="lt", label="Before.")

    class Meta:
        model = AuditEntry
        fields = [
            "site",
            "account",
            "key",
            "kind",
            "principal_name",
            "purpose",
            "request_id",
            "since",
            "until",
        ]
