"""Explanations, breakers and pauses."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.common.output import RowOutput
from apps.tokens.models import BreakerTransition, SiteBreaker
from apps.tokens.models.breakers import BreakerState
from apps.tokens.serializers.acquire import StrictSerializer


class WaitingOutput(serializers.Serializer[Any]):
    """One thing that is being waited for; `until` null means: until something happens."""

    code = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)
    details = serializers.DictField()


class AccountVerdictOutput(serializers.Serializer[Any]):
    account = serializers.CharField()
    eligible = serializers.BooleanField()
    reason = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)
    score = serializers.FloatField()
    position = serializers.IntegerField(allow_null=True)


class RequestExplanationOutput(serializers.Serializer[Any]):
    """`GET requests/{id}/explain`."""

    at = serializers.DateTimeField()
    status = serializers.CharField()
    waiting_for = WaitingOutput(many=True)
    position = serializers.IntegerField(allow_null=True)
    ahead = serializers.IntegerField(allow_null=True)
    earliest_at = serializers.DateTimeField(allow_null=True)
    accounts = AccountVerdictOutput(many=True)


class SiteExplanationOutput(serializers.Serializer[Any]):
    """`GET sites/{slug}/explain`."""

    at = serializers.DateTimeField()
    waiting_for = WaitingOutput(many=True)
    queued = serializers.IntegerField()
    running = serializers.IntegerField()
    next_request = serializers.CharField(allow_null=True)
    next_account = serializers.CharField(allow_null=True)
    accounts = AccountVerdictOutput(many=True)


class BreakerInput(StrictSerializer):
    """`POST sites/{slug}/breaker`; `closed` is a reset."""

    state = serializers.ChoiceField(
        choices=[BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED, BreakerState.CLOSED]
    )


class SiteBreakerOutput(RowOutput[SiteBreaker]):
    site = serializers.CharField(source="site.slug")

    class Meta:
        model = SiteBreaker
        fields = ["site", "state", "failures_in_a_row", "trips", "open_until", "changed_at"]


class BreakerTransitionOutput(RowOutput[BreakerTransition]):
    site = serializers.CharField(source="site.slug")

    class Meta:
        model = BreakerTransition
        fields = ["id", "site", "at", "before", "after", "reason", "by"]


class PauseInput(StrictSerializer):
    """`POST sites/{slug}/pause`."""

    until = serializers.DateTimeField(required=False, allow_null=True)


@extend_schema_field(serializers.DateTimeField(allow_null=True))
class EpochAsTime(serializers.FloatField):
    """Seconds since the epoch inside, an ISO time outside."""

    def to_representation(self, value: Any) -> Any:
        return datetime.fromtimestamp(value, tz=UTC).isoformat().replace("+00:00", "Z")


class BlockedOutput(serializers.Serializer[Any]):
    """One entry of `GET sites/{slug}/blacklist`; `until` null means until a person acts."""

    account = serializers.CharField()
    reason = serializers.CharField()
    until = EpochAsTime(allow_null=True)


class AccountStatisticsOutput(serializers.Serializer[Any]):
    """One entry of `GET sites/{slug}/statistics`; the rate is null before the first login."""

    account = serializers.CharField()
    successes = serializers.IntegerField()
    failures = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True)
    last_success_at = EpochAsTime(allow_null=True)
