"""Queries of the performance API."""

from datetime import timedelta
from typing import Any, Final

from rest_framework import serializers

from apps.common import clock
from apps.common.moments import MomentField
from apps.performance.services.exporting import FORMATS
from apps.performance.services.statistics import MAX_WINDOW_S, WINDOW_S

LONGEST_STEP_S: Final = 366 * 86_400


class SiteInput(serializers.Serializer[Any]):
    site_name = serializers.SlugField(
        required=False, max_length=64, help_text="The slug of a site; all sites without it."
    )

    @property
    def site(self) -> str | None:
        """The site that was named, if one was."""
        found: str | None = self.validated_data.get("site_name")
        return found


class WarmUpInput(SiteInput):
    account = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        max_length=1_000,
        help_text="A username of that site; may be repeated. All accounts without it.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("account") and not attrs.get("site_name"):
            raise serializers.ValidationError({"account": "Name the site as well: site_name."})
        return attrs

    @property
    def accounts(self) -> list[str] | None:
        """The accounts that were named, if any were."""
        return self.validated_data.get("account") or None


class MetricsInput(SiteInput):
    window_s = serializers.FloatField(
        required=False, default=WINDOW_S, min_value=1, max_value=MAX_WINDOW_S
    )


class StatisticsInput(SiteInput):
    days = serializers.IntegerField(required=False, default=7, min_value=1, max_value=365)


class SpanInput(SiteInput):
    """`from` and `to` (default: the last hour), in steps of seconds."""

    to = MomentField(required=False)
    step_s = serializers.IntegerField(
        required=False, default=60, min_value=60, max_value=LONGEST_STEP_S
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` is a Python keyword, so it cannot be a class attribute.
        return super().get_fields() | {"from": MomentField(required=False)}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs.setdefault("to", clock.now())
        attrs.setdefault("from", attrs["to"] - timedelta(hours=1))
        return attrs


class SeriesInput(SpanInput):
    metric = serializers.CharField(max_length=64)
    label = serializers.CharField(  # type: ignore[assignment]  # DRF keeps fields apart
        max_length=128, required=False
    )


class ExportInput(SpanInput):
    format = serializers.ChoiceField(choices=sorted(FORMATS), default="csv")
    metric = serializers.CharField(
        max_length=64, required=False, help_text="One metric; all of them without it."
    )


class ClearInput(serializers.Serializer[Any]):
    namespace = serializers.SlugField(
        required=False, max_length=64, help_text="One namespace; all of them without it."
    )


class CacheInput(serializers.Serializer[Any]):
    window_s = serializers.FloatField(
        required=False, default=WINDOW_S, min_value=1, max_value=MAX_WINDOW_S
    )
