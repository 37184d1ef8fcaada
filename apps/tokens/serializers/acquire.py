"""Asking for a token, and the answers."""

from typing import Any

from rest_framework import serializers

from apps.tokens.services.acquisition import AcquireSpec
from apps.tokens.services.reports import ReportState

DAY_S = 86_400


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know: a misspelt option must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError({name: ["Unknown field."] for name in unknown})
        return super().to_internal_value(data)


class AcquireInput(StrictSerializer):
    """`POST tokens/acquire`."""

    site = serializers.CharField(max_length=64)
    account = serializers.CharField(max_length=200, required=False, allow_null=True)
    min_ttl_s = serializers.IntegerField(min_value=0, max_value=365 * DAY_S, default=0)
    max_wait_s = serializers.FloatField(min_value=0, max_value=300, required=False)
    force = serializers.BooleanField(default=False)
    known_version = serializers.IntegerField(min_value=0, required=False, allow_null=True)
    purpose = serializers.CharField(max_length=200, default="", allow_blank=True)

    def to_spec(self) -> AcquireSpec:
        """Return what the services work with; call after `is_valid`."""
        values = dict(self.validated_data)
        values.pop("max_wait_s", None)
        return AcquireSpec(**values)


class CookieOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    value = serializers.CharField()
    domain = serializers.CharField()
    path = serializers.CharField()
    expires = serializers.FloatField(allow_null=True)
    secure = serializers.BooleanField()
    http_only = serializers.BooleanField()
    same_site = serializers.CharField()


class MaterialOutput(serializers.Serializer[Any]):
    """The token itself: any of these together."""

    bearer = serializers.CharField()
    headers = serializers.DictField(child=serializers.CharField())
    cookies = CookieOutput(many=True)
    local_storage = serializers.DictField()
    session_storage = serializers.DictField()
    user_agent = serializers.CharField()
    proxy = serializers.CharField()


class HandOutOutput(serializers.Serializer[Any]):
    """A token; `token` holds the secret parts, all else may be logged."""

    id = serializers.UUIDField()
    site = serializers.CharField()
    account = serializers.CharField()
    fingerprint = serializers.CharField()
    version = serializers.IntegerField()
    issued_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    usable_until = serializers.DateTimeField()
    cached = serializers.BooleanField()
    refreshing = serializers.BooleanField()
    ttl_unattainable = serializers.BooleanField()
    token = MaterialOutput()


class OpeningOutput(serializers.Serializer[Any]):
    """Why nothing logs in at the site now, and until when, where that is known."""

    code = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)


class TicketOutput(serializers.Serializer[Any]):
    """A request that is still going; ask again at `status_url`, or acquire again."""

    request_id = serializers.UUIDField()
    status = serializers.CharField()
    stage = serializers.CharField()
    progress = serializers.IntegerField()
    current_step = serializers.CharField()
    estimated_remaining_time = serializers.FloatField()
    ask_again_s = serializers.FloatField(allow_null=True)
    status_url = serializers.CharField()
    ttl_unattainable = serializers.BooleanField()
    waiting_for = OpeningOutput(allow_null=True)


class ReportInput(StrictSerializer):
    """`POST tokens/{id}/report`."""

    outcome = serializers.ChoiceField(choices=["rejected"])
    fingerprint = serializers.CharField(max_length=64)


class ReportOutput(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=[state.value for state in ReportState])


class RevokeInput(StrictSerializer):
    reason = serializers.CharField(max_length=64, default="revoked", allow_blank=False)


class RevokeOutput(serializers.Serializer[Any]):
    revoked = serializers.BooleanField(help_text="False if it was revoked already.")
