"""Rules, what they found, and who is told. Values of shares are percent, as people write them."""

import uuid
from datetime import datetime
from typing import Final, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q

from apps.common.fields import EncryptedJSONField

EACH_SITE: Final = "*"


class Severity(models.IntegerChoices):
    """How bad it is; health follows it: warning, degraded, unhealthy."""

    LOW = 1, "low"
    MEDIUM = 2, "medium"
    HIGH = 3, "high"


class AlertMetric(models.TextChoices):
    """What a rule can watch."""

    SUCCESS_RATE = "success_rate", "Success rate (%)"
    TIMEOUT_RATE = "timeout_rate", "Timeout rate (%)"
    MEAN_TOTAL_S = "mean_total_s", "Mean time of an acquisition (s)"
    IN_FLIGHT_AND_WAITING = "in_flight_and_waiting", "In flight and waiting (requests)"
    MEMORY = "memory_percent", "Memory of the fullest host (%)"
    CPU = "cpu_percent", "Processor of the busiest host (%)"
    CACHE_HIT_RATE = "cache_hit_rate", "Cache hit rate (%)"
    STORE_P95_MS = "store_p95_ms", "Storing a token, p95 (ms)"
    RETRIEVE_P95_MS = "retrieve_p95_ms", "Retrieving a token, p95 (ms)"
    API_P95_MS = "api_p95_ms", "Answering an API request, p95 (ms)"
    POOL_LASTS_MIN = "pool_lasts_min", "Until a site's pool is exhausted (min)"


class Direction(models.TextChoices):
    """On which side of its threshold a value is bad."""

    ABOVE = "above", "above"
    BELOW = "below", "below"


class AlertRule(models.Model):
    """When to raise an alert. `site` is a slug, `*` for each site by itself, '' for all as one."""

    name = models.CharField(max_length=64, unique=True)
    metric = models.CharField(max_length=32, choices=AlertMetric.choices)
    direction = models.CharField(max_length=8, choices=Direction.choices)
    threshold = models.FloatField(validators=[MinValueValidator(0)])
    severity = models.PositiveSmallIntegerField(choices=Severity.choices)
    site = models.CharField(
        max_length=64, blank=True, help_text="A site's slug; * for each site; empty for all as one."
    )
    enabled = models.BooleanField(default=True)
    window_s = models.PositiveIntegerField(
        default=300,
        validators=[MinValueValidator(60), MaxValueValidator(86_400)],
        help_text="Of how many seconds the value is made; begins with a whole minute.",
    )
    minimum = models.PositiveIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Observations in the window below which nothing is concluded.",
    )
    for_s = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(86_400)],
        help_text="How long the value must have been bad before an alert is raised.",
    )
    clear_for_s = models.PositiveIntegerField(
        default=120,
        validators=[MaxValueValidator(86_400)],
        help_text="How long the value must have been good before the alert is resolved.",
    )
    clear_margin = models.FloatField(
        default=0.05,
        validators=[MinValueValidator(0), MaxValueValidator(0.9)],
        help_text="How far inside its threshold a good value must be, as a share of it.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertRuleState(models.Model):
    """What a rule last saw at a site, and since when it has been bad or good."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="states")
    site = models.CharField(max_length=64, blank=True)
    value = models.FloatField(null=True)
    observations = models.PositiveBigIntegerField(default=0)
    checked_at = models.DateTimeField()
    bad_since = models.DateTimeField(null=True)
    good_since = models.DateTimeField(null=True)
    silent_since = models.DateTimeField(null=True, help_text="Since when there is too little data.")

    class Meta:
        ordering = ["rule", "site"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "site"], name="one_state_per_rule_and_site"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.site}".strip()


class AlertQuerySet(models.QuerySet["Alert"]):
    def unresolved(self) -> Self:
        return self.filter(resolved_at=None)


class Alert(models.Model):
    """One time that a rule's condition held. `severity` only ever rises; the rest is history.

    The rule's name, metric and threshold are copied: an alert outlives its rule.
    """

    rule = models.ForeignKey(AlertRule, on_delete=models.SET_NULL, null=True, related_name="alerts")
    rule_name = models.CharField(max_length=64)
    metric = models.CharField(max_length=32, choices=AlertMetric.choices)
    direction = models.CharField(max_length=8, choices=Direction.choices)
    threshold = models.FloatField()
    site = models.CharField(max_length=64, blank=True)
    severity = models.PositiveSmallIntegerField(choices=Severity.choices)
    value = models.FloatField(help_text="When it was last looked at.")
    opened_value = models.FloatField()
    observations = models.PositiveBigIntegerField(default=0)
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=200, blank=True)
    acknowledged_note = models.CharField(max_length=500, blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=200, blank=True, help_text="Empty: by itself.")
    resolved_reason = models.CharField(max_length=64, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "site"],
                condition=Q(resolved_at=None),
                name="one_open_alert_per_rule_and_site",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at"], name="newest_alert"),
            models.Index(fields=["severity"], condition=Q(resolved_at=None), name="open_alerts"),
        ]

    def __str__(self) -> str:
        return f"{self.rule_name} {self.site}".strip()

    @property
    def state(self) -> str:
        """`open`, `acknowledged` or `resolved`."""
        if self.resolved_at is not None:
            return "resolved"
        return "open" if self.acknowledged_at is None else "acknowledged"


class ChannelKind(models.TextChoices):
    """Where notices can go."""

    LOG = "log", "Log"
    MAIL = "mail", "Mail"
    WEBHOOK = "webhook", "Webhook (signed)"
    DINGTALK = "dingtalk", "DingTalk"
    FEISHU = "feishu", "Feishu"
    WECOM = "wecom", "WeCom"
    SLACK = "slack", "Slack"


class NotificationChannel(models.Model):
    """Somebody to tell. `secrets` holds `url` and `secret`; both go in and never come out."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=16, choices=ChannelKind.choices)
    enabled = models.BooleanField(default=True)
    minimum_severity = models.PositiveSmallIntegerField(
        choices=Severity.choices, default=Severity.LOW
    )
    site = models.CharField(
        max_length=64, blank=True, help_text="Only alerts of this site; empty for all."
    )
    notify_resolved = models.BooleanField(default=True)
    recipients = models.JSONField(default=list, blank=True, help_text="Mail addresses, for mail.")
    host = models.CharField(
        max_length=255, blank=True, editable=False, help_text="The host of the address."
    )
    secrets = EncryptedJSONField(null=True, blank=True)
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_failure_at = models.DateTimeField(null=True, editable=False)
    last_failure = models.CharField(max_length=300, blank=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeliveryStatus(models.TextChoices):
    """Waiting ones are sent when their time comes; failed ones were given up."""

    WAITING = "waiting", "Waiting"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"


class DeliveryQuerySet(models.QuerySet["NotificationDelivery"]):
    def due(self, *, at: datetime) -> Self:
        """Waiting ones whose time has come; nobody holds them.

        What an earlier notice of the same alert waits for, a later one waits for too: nobody is
        to hear of an alert after hearing that it has ended.
        """
        waiting = self.filter(status=DeliveryStatus.WAITING)
        earlier = waiting.filter(
            channel=OuterRef("channel"),
            alert=OuterRef("alert"),
            created_at__lt=OuterRef("created_at"),
        )
        return waiting.filter(~Exists(earlier), not_before__lte=at)


class NotificationDelivery(models.Model):
    """One notice for one channel. The id goes with it, so that a receiver can tell a repetition.

    Whoever sends it moves `not_before` past its own patience first, so that no two send it at
    once and a killed sender's is sent again.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(
        NotificationChannel, on_delete=models.CASCADE, related_name="deliveries"
    )
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, null=True, related_name="deliveries")
    event = models.CharField(max_length=16)
    notice = models.JSONField()
    status = models.CharField(
        max_length=16, choices=DeliveryStatus.choices, default=DeliveryStatus.WAITING
    )
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField()
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "notification deliveries"
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["not_before"], condition=Q(status="waiting"), name="notices_to_send"
            ),
            models.Index(fields=["-created_at"], name="newest_notice"),
        ]

    def __str__(self) -> str:
        return f"{self.event} ({self.status})"


class Turn(models.Model):
    """When something that one process in the whole cluster does is due next."""

    name = models.CharField(max_length=64, primary_key=True)
    due_at = models.DateTimeField()
    taken_by = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name
