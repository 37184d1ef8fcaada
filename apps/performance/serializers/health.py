"""Health and forecasts, as the API gives them."""

from typing import Any

from rest_framework import serializers

from apps.performance.serializers.alerts import SeverityField


class ReasonOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    severity = SeverityField()
    message = serializers.CharField()


class CheckOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    status = serializers.CharField(help_text="`ok`, `failed` or `skipped`.")
    facts = serializers.DictField()
    reasons = ReasonOutput(many=True)
    took_ms = serializers.FloatField()


class HealthOutput(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="`healthy`, `warning`, `degraded` or `unhealthy`.")
    reasons = ReasonOutput(many=True)
    checks = CheckOutput(many=True)


class ForecastInput(serializers.Serializer[Any]):
    site_name = serializers.SlugField(max_length=64, help_text="The slug of a site.")


class ForecastOutput(serializers.Serializer[Any]):
    site = serializers.CharField()
    at = serializers.DateTimeField()
    exhausted_in_min = serializers.FloatField(
        allow_null=True, help_text="0: now. null: no end in sight."
    )
    reason = serializers.CharField()
    accounts = serializers.IntegerField()
    accounts_able = serializers.IntegerField()
    tokens_usable = serializers.IntegerField()
    tokens_last_until = serializers.DateTimeField(allow_null=True)
    login_chance = serializers.FloatField(allow_null=True)
