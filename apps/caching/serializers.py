"""What comes in and what goes out."""

from typing import Any

from django.core.exceptions import ValidationError as ModelInvalid
from rest_framework import serializers

from apps.caching.models import CachePolicy, CacheUsage
from apps.common.output import RowOutput

_SETTINGS = [
    "ttl_s", "l1_ttl_s", "l1_entries", "jitter", "negative_ttl_s", "stale_if_error_s",
    "early_refresh", "secret",
]  # fmt: skip


class CachePolicyInput(serializers.ModelSerializer[CachePolicy]):
    """A policy as it is written; the namespace of an existing one cannot be changed."""

    class Meta:
        model = CachePolicy
        fields = ["namespace", *_SETTINGS]

    def validate_namespace(self, value: str) -> str:
        if self.instance is not None and value != self.instance.namespace:
            raise serializers.ValidationError("The namespace of a policy cannot be changed.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = self.instance
        known = {name: getattr(row, name) for name in self.Meta.fields} if row else {}
        try:
            CachePolicy(**(known | attrs)).clean()
        except ModelInvalid as error:
            raise serializers.ValidationError(error.message_dict) from None
        return attrs


class CachePolicyOutput(RowOutput[CachePolicy]):
    class Meta:
        model = CachePolicy
        fields = ["id", "namespace", *_SETTINGS, "updated_at"]
        read_only_fields = fields


class CacheUsageOutput(RowOutput[CacheUsage]):
    hit_rate = serializers.SerializerMethodField()

    class Meta:
        model = CacheUsage
        fields = [
            "id", "minute", "namespace", "layer", "hits", "misses", "hit_rate", "negative_hits",
            "stale_served", "loads", "load_ms", "errors", "evictions", "entries", "bytes",
        ]  # fmt: skip
        read_only_fields = fields

    def get_hit_rate(self, row: CacheUsage) -> float | None:
        reads = row.hits + row.misses
        return row.hits / reads if reads else None
