"""What the history's API takes and gives."""

import zoneinfo
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from rest_framework import serializers

from apps.common.moments import MomentField
from apps.common.output import RowOutput
from apps.history.contracts import Figures, Group, Grouping, Statistics, Window
from apps.history.models import TokenAcquisitionHistory

MAX_DAYS = 365
DEFAULT_DAYS = 30


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


class Seconds(serializers.FloatField):
    """A column of whole milliseconds."""

    def to_representation(self, value: int) -> float:  # type: ignore[override]  # DRF says str
        return value / 1000


class RecordOutput(RowOutput[TokenAcquisitionHistory]):
    """One finished acquisition; times in seconds."""

    total_s = Seconds(source="total_ms", read_only=True)
    login_s = Seconds(source="login_ms", read_only=True, allow_null=True)

    class Meta:
        model = TokenAcquisitionHistory
        fields = [
            "id",
            "request_id",
            "site",
            "account",
            "status",
            "trigger_reason",
            "queue",
            "attempts",
            "retries",
            "total_s",
            "login_s",
            "token_fingerprint",
            "error_code",
            "error_message",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class StatisticsInput(serializers.Serializer[Any]):
    """Either `days` back from now, or `from` and `to`; narrowed and grouped as wished."""

    days = serializers.IntegerField(min_value=1, max_value=MAX_DAYS, required=False)
    to = MomentField(required=False)
    site = serializers.CharField(max_length=64, required=False, default="")
    account = serializers.CharField(max_length=128, required=False, default="")
    group_by = serializers.MultipleChoiceField(
        choices=[grouping.value for grouping in Grouping],
        required=False,
        help_text="Repeat it for several; by default status, site, account and day.",
    )
    tz = serializers.CharField(max_length=64, required=False, default="UTC")

    def get_fields(self) -> dict[str, Any]:
        # `from` is a Python keyword, so it cannot be a class attribute.
        return super().get_fields() | {"from": MomentField(required=False)}

    def validate_tz(self, value: str) -> str:
        if value not in _zone_names():
            raise serializers.ValidationError("This is not the name of a time zone.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "days" in attrs and ("from" in attrs or "to" in attrs):
            raise serializers.ValidationError("Give either days, or from and to.")
        if "from" in attrs and "to" in attrs and attrs["from"] >= attrs["to"]:
            raise serializers.ValidationError({"to": "This must be after from."})
        return attrs

    def to_window(self, now: datetime) -> Window:
        """Return the window asked for; open ends are now, and 30 days before the end."""
        asked = self.validated_data
        end = asked.get("to", now)
        start = asked.get("from", end - timedelta(days=asked.get("days", DEFAULT_DAYS)))
        groups = asked.get("group_by")
        chosen = {"groups": frozenset(map(Grouping, groups))} if groups else {}
        return Window(
            start=start,
            end=end,
            zone=zoneinfo.ZoneInfo(asked["tz"]),
            site=asked["site"],
            account=asked["account"],
            **chosen,
        )


class FiguresOutput(serializers.Serializer[Any]):
    """Exact counts and times in seconds; null where there is nothing to say."""

    total = serializers.IntegerField()
    success = serializers.IntegerField()
    failed = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True)
    attempts = serializers.IntegerField()
    retries = serializers.IntegerField()
    total_s_mean = serializers.FloatField(allow_null=True)
    total_s_min = serializers.FloatField(allow_null=True)
    total_s_max = serializers.FloatField(allow_null=True)
    logins = serializers.IntegerField()
    login_s_mean = serializers.FloatField(allow_null=True)
    login_s_min = serializers.FloatField(allow_null=True)
    login_s_max = serializers.FloatField(allow_null=True)

    def to_representation(self, instance: Figures) -> dict[str, Any]:
        # A year has hundreds of lines; field by field they cost more than the statistics.
        return {name: getattr(instance, name) for name in FIGURES}


FIGURES = tuple(FiguresOutput._declared_fields)


class GroupOutput(FiguresOutput):
    """One line of a breakdown; `site` is given for accounts."""

    key = serializers.CharField()
    site = serializers.CharField(allow_blank=True)

    def to_representation(self, instance: Group) -> dict[str, Any]:  # type: ignore[override]
        figures = {name: getattr(instance.figures, name) for name in FIGURES}
        return {"key": instance.key, "site": instance.site} | figures


class PercentilesOutput(serializers.Serializer[Any]):
    """Seconds, within 2.5 % of the true value."""

    p50_s = serializers.FloatField(allow_null=True)
    p95_s = serializers.FloatField(allow_null=True)
    p99_s = serializers.FloatField(allow_null=True)


class PeriodOutput(serializers.Serializer[Any]):
    """The window that was answered for: [start, end)."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    tz = serializers.CharField(source="zone.key")
    site = serializers.CharField(allow_blank=True)
    account = serializers.CharField(allow_blank=True)


class StatisticsOutput(serializers.Serializer[Any]):
    """The whole, and the breakdowns that were asked for under `groups`."""

    period = PeriodOutput(source="window")
    summary = FiguresOutput()
    total_percentiles = PercentilesOutput()
    login_percentiles = PercentilesOutput()
    groups = serializers.DictField(child=GroupOutput(many=True))

    def to_representation(self, instance: Statistics) -> dict[str, Any]:
        return {
            "period": PeriodOutput(instance.window).data,
            "summary": FiguresOutput(instance.summary).data,
            "total_percentiles": PercentilesOutput(instance.total_percentiles).data,
            "login_percentiles": PercentilesOutput(instance.login_percentiles).data,
            "groups": {
                grouping.value: GroupOutput(list(groups), many=True).data
                for grouping, groups in instance.groups.items()
            },
        }


class ExportInput(serializers.Serializer[Any]):
    """The format; the filters are those of the list."""

    format = serializers.ChoiceField(choices=["csv", "jsonl"], default="csv")
