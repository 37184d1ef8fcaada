"""Tuning and simulation over HTTP: what goes in, and what comes out."""

from typing import Any, Final

from rest_framework import serializers

from apps.common.errors import ValidationFailed
from apps.common.output import RowOutput
from apps.performance.models import LimitChange, TuningBounds
from apps.performance.services.simulation import Limits
from apps.performance.services.tuning import WINDOW_S
from apps.tokens.models import Site

LIMIT: Final[dict[str, Any]] = {"min_value": 1, "max_value": 1_000}


class OptimizeInput(serializers.Serializer[Any]):
    apply = serializers.BooleanField(default=False, help_text="Set the recommended limits.")
    window_s = serializers.FloatField(default=WINDOW_S, min_value=60, max_value=31 * 86_400)


class RecommendationOutput(serializers.Serializer[Any]):
    site = serializers.CharField(help_text="A slug; empty for the limit over all sites.")
    present = serializers.IntegerField(allow_null=True)
    effective = serializers.IntegerField()
    recommended = serializers.IntegerField()
    changes = serializers.BooleanField()
    reason = serializers.CharField()
    numbers = serializers.JSONField()


class LimitChangeOutput(RowOutput[LimitChange]):
    class Meta:
        model = LimitChange
        fields = [
            "id", "at", "site", "before", "after", "reason", "numbers", "by", "automatic",
            "reverts",
        ]  # fmt: skip
        read_only_fields = fields


class OptimizeOutput(serializers.Serializer[Any]):
    recommendations = RecommendationOutput(many=True)
    applied = LimitChangeOutput(many=True)


class SimulateInput(serializers.Serializer[Any]):
    """Limits to try; one that is left out stays as it is."""

    max_concurrent = serializers.IntegerField(required=False, **LIMIT)
    max_concurrent_per_site = serializers.IntegerField(required=False, **LIMIT)
    reserved_for_interactive = serializers.IntegerField(
        required=False, min_value=0, max_value=1_000
    )
    sites = serializers.DictField(child=serializers.IntegerField(**LIMIT), required=False)
    window_s = serializers.FloatField(default=WINDOW_S, min_value=60, max_value=31 * 86_400)

    def limits(self) -> Limits:
        """Return the limits to try. Raises ValidationFailed for a site that does not exist."""
        asked, present = self.validated_data, Limits.present()
        known = set(Site.objects.values_list("slug", flat=True))
        if unknown := sorted(set(asked.get("sites", ())) - known):
            raise ValidationFailed("There is no such site.", details={"sites": unknown})
        names = ("max_concurrent", "max_concurrent_per_site", "reserved_for_interactive")
        own = {name: asked.get(name, getattr(present, name)) for name in names}
        return Limits(**own, sites={**present.sites, **asked.get("sites", {})})


class SimulatedOutput(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    served = serializers.IntegerField()
    failed = serializers.IntegerField()
    expired = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    logins = serializers.IntegerField()
    mean_wait_s = serializers.FloatField(allow_null=True)
    p50_wait_s = serializers.FloatField(allow_null=True)
    p95_wait_s = serializers.FloatField(allow_null=True)
    max_wait_s = serializers.FloatField(allow_null=True)


class SimulationOutput(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    recorded = SimulatedOutput()
    present = SimulatedOutput()
    proposed = SimulatedOutput()
    by_site = serializers.DictField(child=SimulatedOutput())
    busiest = serializers.DictField(child=serializers.IntegerField())
    expected_rejections = serializers.FloatField()
    beyond_evidence = serializers.IntegerField()


class TuningBoundsSerializer(serializers.ModelSerializer[TuningBounds]):
    """Between which limits tuning may move; `site` null is the limit over all sites."""

    site = serializers.SlugRelatedField(
        slug_field="slug", queryset=Site.objects.all(), allow_null=True, required=False
    )

    class Meta:
        model = TuningBounds
        fields = ["id", "site", "automatic", "lowest", "highest"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Raises ValidationError for bounds in the wrong order, or a second row for one limit."""
        row = self.instance or TuningBounds()
        lowest = attrs.get("lowest", row.lowest)
        highest = attrs.get("highest", row.highest)
        if highest < lowest:
            raise serializers.ValidationError({"highest": "Must not be below the lowest."})
        site = attrs.get("site", row.site)
        if TuningBounds.objects.filter(site=site).exclude(pk=row.pk).exists():
            raise serializers.ValidationError({"site": "There are bounds for it already."})
        return attrs
