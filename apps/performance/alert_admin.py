"""Rules and channels are changed here; alerts are acknowledged and resolved; the rest is facts."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import action

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord
from apps.access.selectors import principal_of_user
from apps.common.clock import database_now
from apps.common.errors import BrokerError
from apps.common.request_context import current_request_id
from apps.performance.alert_forms import AlertRuleForm, ChannelForm
from apps.performance.models import (
    Alert,
    AlertRule,
    AlertRuleState,
    NotificationChannel,
    NotificationDelivery,
    Turn,
)
from apps.performance.services import (
    alert_rules,
    alerting,
    evaluation,
    notification,
    notification_channels,
)


class _Facts(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AlertRule)
class AlertRuleAdmin(ModelAdmin):  # type: ignore[misc]
    form = AlertRuleForm
    list_display = [
        "name", "metric", "direction", "threshold", "severity", "site", "enabled", "window_s",
        "minimum",
    ]  # fmt: skip
    list_filter = ["enabled", "severity", "metric"]
    search_fields = ["name", "site"]
    readonly_fields = ["updated_at"]

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        _audit(request, {"alert_rule": obj.name, "changed": form.changed_data})
        super().save_model(request, obj, form, change)
        if {"metric", "direction", "site", "enabled"} & set(form.changed_data):
            evaluation.begin_anew(obj, by=request.user.get_username())

    def delete_model(self, request: HttpRequest, obj: AlertRule) -> None:
        _audit(request, {"alert_rule": obj.name, "deleted": True})
        evaluation.begin_anew(obj, by=request.user.get_username())
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        for rule in queryset:
            self.delete_model(request, rule)


@admin.register(AlertRuleState)
class AlertRuleStateAdmin(_Facts):
    list_display = fields = [
        "rule", "site", "measured", "observations", "checked_at", "bad_since", "good_since",
        "silent_since",
    ]  # fmt: skip
    readonly_fields = ["measured"]
    list_filter = ["rule", "site"]

    @admin.display(description="Value", ordering="value")
    def measured(self, row: AlertRuleState) -> str:
        return alert_rules.shown(row.value)


@admin.register(Alert)
class AlertAdmin(_Facts):
    list_display = [
        "rule_name", "site", "severity", "state", "measured", "opened_at", "acknowledged_by",
        "resolved_at", "resolved_by",
    ]  # fmt: skip
    list_filter = ["severity", "rule_name", "site", ("resolved_at", admin.EmptyFieldListFilter)]
    actions = ["acknowledge", "resolve"]

    @admin.display(description="Value", ordering="value")
    def measured(self, alert: Alert) -> str:
        return f"{alert_rules.shown(alert.value)} ({alert.direction} {alert.threshold:g})"

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Needs the permission behind the scope `operate`."""
        return bool(request.user.has_perm("access.operate"))

    @admin.action(description="Acknowledge", permissions=["operate"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        who, at = request.user.get_username(), database_now()
        rows = queryset.filter(resolved_at=None)
        done = sum(alerting.acknowledge(alert, by=who, at=at) for alert in rows)
        self.message_user(request, f"{done} alerts acknowledged.")

    @admin.action(description="Resolve", permissions=["operate"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        who, at = request.user.get_username(), database_now()
        done = sum(
            alerting.resolve(alert, at=at, reason=alerting.BY_HAND, by=who) for alert in queryset
        )
        self.message_user(request, f"{done} alerts resolved.")


@admin.register(NotificationChannel)
class NotificationChannelAdmin(ModelAdmin):  # type: ignore[misc]
    form = ChannelForm
    list_display = [
        "name", "kind", "enabled", "host", "minimum_severity", "site", "last_success_at",
        "last_failure_at", "last_failure",
    ]  # fmt: skip
    list_filter = ["enabled", "kind"]
    search_fields = ["name"]
    readonly_fields = ["host", "last_success_at", "last_failure_at", "last_failure", "updated_at"]
    actions = ["send_test"]
    actions_submit_line = ["save_and_send_test"]

    def save_model(
        self, request: HttpRequest, obj: NotificationChannel, form: Any, change: bool
    ) -> None:
        _audit(request, {"notification_channel": obj.name, "changed": form.changed_data})
        given = form.cleaned_data
        notification_channels.save(obj, url=given["url"], secret=given["secret"] or None)
        super().save_model(request, obj, form, change)  # runs what the pressed button asks for

    @action(description="Save and send test", permissions=["change"])  # type: ignore[untyped-decorator]
    def save_and_send_test(self, request: HttpRequest, obj: NotificationChannel) -> None:
        # The page saves in a transaction, which is not kept open for a receiver.
        transaction.on_commit(partial(self._send_test, request, obj))

    @admin.action(description="Send test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[NotificationChannel]) -> None:
        for channel in queryset:
            self._send_test(request, channel)

    def _send_test(self, request: HttpRequest, channel: NotificationChannel) -> None:
        try:
            problem = notification.send_test(channel, by=request.user.get_username())
        except BrokerError as error:
            problem = error.message
        level = messages.ERROR if problem else messages.SUCCESS
        self.message_user(request, f"{channel.name}: {problem or 'sent'}", level)


@admin.register(NotificationDelivery)
class NotificationDeliveryAdmin(_Facts):
    list_display = [
        "created_at", "channel", "event", "alert", "status", "attempts", "not_before",
        "finished_at", "error",
    ]  # fmt: skip
    list_filter = ["status", "channel", "event"]


@admin.register(Turn)
class TurnAdmin(_Facts):
    list_display = ["name", "due_at", "taken_by"]


def _audit(request: HttpRequest, details: dict[str, Any]) -> None:
    audit.record(
        AuditRecord.by(
            principal_of_user(request.user),
            kind=AuditKind.SETTINGS,
            details=details,
            request_id=current_request_id(),
            remote_address=request.META.get("REMOTE_ADDR", ""),
        )
    )
