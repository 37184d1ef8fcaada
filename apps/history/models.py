"""The facts, and the cells that make statistics over them fast.

The cells are a copy that can be thrown away: a period is read from cells only while a `Rollup`
row vouches for it, and whoever writes or deletes a fact removes that row in the same transaction.
"""

from django.db import models
from django.db.models import Q

from apps.history.contracts import HistoryStatus
from apps.history.querysets import HistoryQuerySet

STATUS_CHOICES = [
    (status.value, status.name.replace("_", " ").capitalize()) for status in HistoryStatus
]


class TokenAcquisitionHistory(models.Model):
    """One finished chain of login attempts, never changed after it is written.

    On PostgreSQL the table is partitioned by month of `finished_at`; there the primary key is
    (id, finished_at), so nothing may refer to this table by foreign key.
    """

    request_id = models.UUIDField()
    site = models.CharField(max_length=64)
    account = models.CharField(max_length=128, blank=True)
    status = models.CharField(max_length=20, choices=STATUS_CHOICES)
    trigger_reason = models.CharField(max_length=32, blank=True)
    queue = models.CharField(max_length=32, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0)
    # Whole milliseconds, so that sums are exact whatever the order of adding.
    total_ms = models.PositiveIntegerField()
    login_ms = models.PositiveIntegerField(null=True, blank=True)
    # Where the time falls in the log-spaced scale of apps.history.scale.
    total_bucket = models.SmallIntegerField(editable=False)
    login_bucket = models.SmallIntegerField(null=True, editable=False)
    token_fingerprint = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField()

    objects = HistoryQuerySet.as_manager()

    class Meta:
        verbose_name = "acquisition"
        verbose_name_plural = "acquisition history"
        ordering = ["-finished_at", "-id"]
        constraints = [
            # A unique index of a partitioned table must contain the partition key.
            models.UniqueConstraint(
                fields=["request_id", "finished_at"], name="history_request_once"
            ),
        ]
        indexes = [
            models.Index(fields=["finished_at", "id"], name="history_finished"),
            models.Index(fields=["site", "finished_at", "id"], name="history_site"),
            models.Index(fields=["account", "finished_at", "id"], name="history_account"),
            models.Index(fields=["status", "finished_at", "id"], name="history_status"),
            models.Index(fields=["trigger_reason", "finished_at", "id"], name="history_reason"),
            models.Index(
                fields=["error_code", "finished_at", "id"],
                name="history_error",
                condition=~Q(error_code=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.site}/{self.account} {self.status} {self.finished_at:%Y-%m-%d %H:%M:%S}"

    @property
    def total_s(self) -> float:
        """Seconds from the request to its end."""
        return self.total_ms / 1000

    @property
    def login_s(self) -> float | None:
        """Seconds spent logging in; None if no login was made."""
        return None if self.login_ms is None else self.login_ms / 1000


class Cell(models.Model):
    """Sums over the facts of one period; `period` counts hours, days or months."""

    period = models.IntegerField()
    site = models.CharField(max_length=64, blank=True)
    success = models.BigIntegerField()
    n = models.BigIntegerField()
    attempts = models.BigIntegerField()
    retries = models.BigIntegerField()
    total_sum = models.BigIntegerField()
    total_min = models.IntegerField()
    total_max = models.IntegerField()
    login_n = models.BigIntegerField()
    login_sum = models.BigIntegerField()
    login_min = models.IntegerField(null=True)
    login_max = models.IntegerField(null=True)

    class Meta:
        abstract = True


class Level(models.TextChoices):
    """The periods a roll-up can vouch for."""

    DAY = "d", "Day"
    MONTH = "m", "Month"


class HourCell(Cell):
    """By hour since 1970 (UTC) and site; the site "" is the sum of all sites."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["site", "period"], name="history_hour_once")]
        indexes = [models.Index(fields=["period"], name="history_hour_period")]

    def __str__(self) -> str:
        return f"hour {self.period} {self.site or 'all'}: {self.n}"


class DayCell(Cell):
    """By day since 1970 (UTC), site and account."""

    account = models.CharField(max_length=128, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "site", "account"], name="history_day_once")
        ]

    def __str__(self) -> str:
        return f"day {self.period} {self.site}/{self.account}: {self.n}"


class MonthCell(Cell):
    """By month (year times 12 plus month minus 1, UTC), site and account."""

    account = models.CharField(max_length=128, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "site", "account"], name="history_month_once")
        ]

    def __str__(self) -> str:
        return f"month {self.period} {self.site}/{self.account}: {self.n}"


class StatusCell(Cell):
    """By day or month, site and status; the site "" is the sum of all sites.

    Apart from the accounts: six statuses an account would be six times the rows of a year.
    """

    level = models.CharField(max_length=1, choices=Level.choices)
    status = models.CharField(max_length=20, choices=STATUS_CHOICES)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["level", "site", "period", "status"], name="history_status_once"
            )
        ]
        indexes = [models.Index(fields=["level", "period"], name="history_status_period")]

    def __str__(self) -> str:
        return f"status {self.level} {self.period} {self.site or 'all'} {self.status}: {self.n}"


class Spread(models.Model):
    """How many records fell into each bucket of the scale: {bucket: count}, for percentiles.

    The site "" is the sum of all sites.
    """

    level = models.CharField(max_length=1, choices=Level.choices)
    period = models.IntegerField()
    site = models.CharField(max_length=64, blank=True)
    total = models.JSONField()
    login = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["level", "site", "period"], name="history_spread_once")
        ]
        indexes = [models.Index(fields=["level", "period"], name="history_spread_period")]

    def __str__(self) -> str:
        return f"spread {self.level} {self.period} {self.site or 'all'}"


class Rollup(models.Model):
    """Vouches that the cells of a period are exact. A day vouches for its hours as well."""

    level = models.CharField(max_length=1, choices=Level.choices)
    period = models.IntegerField()
    rolled_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["level", "period"], name="history_rollup_once")
        ]

    def __str__(self) -> str:
        return f"{self.get_level_display()} {self.period}"
