"""Rules, alerts, channels and notices, as the API takes and gives them."""

from typing import Any, Final

from django.db.models import Model
from rest_framework import serializers

from apps.common.output import RowOutput
from apps.performance.models import Alert, AlertRule, NotificationChannel, NotificationDelivery
from apps.performance.models.alerts import EACH_SITE, Severity
from apps.performance.services import alert_rules, evaluation, notification_channels
from apps.tokens.models import Site

_RULE_FIELDS: Final = [
    "name", "metric", "direction", "threshold", "severity", "site", "enabled", "window_s",
    "minimum", "for_s", "clear_for_s", "clear_margin",
]  # fmt: skip
# A rule that changes in one of these looks at something else than before.
_MEANING: Final = ("metric", "direction", "site", "enabled")
_CHANNEL_FIELDS: Final = [
    "name", "kind", "enabled", "minimum_severity", "site", "notify_resolved", "recipients",
]  # fmt: skip


class SeverityField(serializers.ChoiceField):
    """`low`, `medium` or `high`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=[str(one.label) for one in Severity], **options)

    def to_internal_value(self, data: Any) -> Any:
        return Severity[str(super().to_internal_value(data)).upper()]

    def to_representation(self, value: Any) -> str:
        return str(Severity(value).label)


class _Strict(serializers.ModelSerializer[Any]):
    """Refuses unknown and read-only fields instead of ignoring them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            writable = {name for name, field in self.fields.items() if not field.read_only}
            unknown = {
                name: ["Unknown or read-only field."] for name in sorted(set(data) - writable)
            }
            if unknown:
                raise serializers.ValidationError(unknown)
        return super().to_internal_value(data)


def _check_site(value: str, row: Any, *, also: tuple[str, ...] = ("",)) -> str:
    # A row outlives the site it names, and can still be changed then.
    kept = row is not None and row.site == value
    if not kept and value not in also and not Site.objects.filter(slug=value).exists():
        raise serializers.ValidationError("There is no such site.")
    return value


class AlertRuleInput(_Strict):
    severity = SeverityField()

    class Meta:
        model = AlertRule
        fields = _RULE_FIELDS

    def validate_site(self, value: str) -> str:
        return _check_site(value, self.instance, also=("", EACH_SITE))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        now = {name: attrs.get(name, getattr(self.instance, name, "")) for name in _MEANING}
        if problem := alert_rules.scope_problem(now["metric"], now["site"]):
            raise serializers.ValidationError({"site": [problem]})
        return attrs

    def update(self, instance: Model, validated_data: dict[str, Any]) -> Any:
        changed = any(getattr(instance, n) != validated_data.get(n, getattr(instance, n))
                      for n in _MEANING)  # fmt: skip
        rule = super().update(instance, validated_data)
        if changed:
            evaluation.begin_anew(rule, by=self.context["by"])
        return rule


class AlertRuleOutput(RowOutput[AlertRule]):
    severity = SeverityField()

    class Meta:
        model = AlertRule
        fields = ["id", *_RULE_FIELDS, "updated_at"]


class AlertOutput(RowOutput[Alert]):
    severity = SeverityField()
    state = serializers.CharField(help_text="`open`, `acknowledged` or `resolved`.")

    class Meta:
        model = Alert
        fields = [
            "id", "rule", "rule_name", "metric", "direction", "threshold", "site", "severity",
            "state", "value", "opened_value", "observations", "opened_at", "seen_at",
            "acknowledged_at", "acknowledged_by", "acknowledged_note", "resolved_at",
            "resolved_by", "resolved_reason",
        ]  # fmt: skip


class AcknowledgeInput(serializers.Serializer[Any]):
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)


class ChannelInput(_Strict):
    """`url` and `secret` go in and never come out; without them those that are there stay."""

    minimum_severity = SeverityField(required=False)
    url = serializers.CharField(write_only=True, required=False, max_length=2_000)
    secret = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=500, trim_whitespace=False
    )

    class Meta:
        model = NotificationChannel
        fields = [*_CHANNEL_FIELDS, "url", "secret"]

    def validate_site(self, value: str) -> str:
        return _check_site(value, self.instance)

    def save(self, **_: Any) -> NotificationChannel:
        """Write through the service that checks; raises its ValidationFailed."""
        given = dict(self.validated_data)
        url, secret = given.pop("url", ""), given.pop("secret", None)
        channel = self.instance or NotificationChannel()
        for name, value in given.items():
            setattr(channel, name, value)
        notification_channels.save(channel, url=url, secret=secret)
        self.instance = channel
        return channel


class ChannelOutput(RowOutput[NotificationChannel]):
    minimum_severity = SeverityField()
    has_secret = serializers.SerializerMethodField()
    is_lost = serializers.SerializerMethodField()

    class Meta:
        model = NotificationChannel
        fields = [
            "id", *_CHANNEL_FIELDS, "host", "has_secret", "is_lost", "last_success_at",
            "last_failure_at", "last_failure", "updated_at",
        ]  # fmt: skip

    def get_has_secret(self, row: NotificationChannel) -> bool:
        """Say whether what goes there is signed."""
        return notification_channels.is_signed(row)

    def get_is_lost(self, row: NotificationChannel) -> bool:
        """Say whether its address and secret cannot be opened and must be entered again."""
        return notification_channels.is_lost(row)


class TestOutput(serializers.Serializer[Any]):
    delivered = serializers.BooleanField()
    error = serializers.CharField()


class DeliveryOutput(RowOutput[NotificationDelivery]):
    channel_name = serializers.CharField(source="channel.name")

    class Meta:
        model = NotificationDelivery
        fields = [
            "id", "channel", "channel_name", "alert", "event", "notice", "status", "attempts",
            "not_before", "created_at", "finished_at", "error",
        ]  # fmt: skip
