"""What was measured, as rows that add up."""

from django.db import models


class Resolution(models.IntegerChoices):
    """How long the period of a row is, in minutes. A measurement is in one row of a period."""

    EVER = 0, "Ever"
    MINUTE = 1, "Minute"
    HOUR = 60, "Hour"
    DAY = 1_440, "Day"


class MetricBucket(models.Model):
    """How often a metric had a value in one bucket of `apps.common.scale` in one period.

    Rows are only ever added to, so any number of processes write the same ones. `minute` is the
    start of the period, in UTC. A measurement is in one row that ages from minutes to hours to
    days, and in one row of EVER (whose `minute` is the epoch), which never shrinks.
    """

    metric = models.CharField(max_length=64)
    site = models.CharField(max_length=128, blank=True)
    label = models.CharField(max_length=128, blank=True)
    resolution = models.SmallIntegerField(choices=Resolution.choices)
    minute = models.DateTimeField()
    bucket = models.SmallIntegerField()
    n = models.BigIntegerField()
    total = models.FloatField()
    min = models.FloatField()
    max = models.FloatField()

    class Meta:
        ordering = ["-minute", "metric", "site", "label", "bucket"]
        constraints = [
            models.UniqueConstraint(
                fields=["metric", "minute", "resolution", "site", "label", "bucket"],
                name="metric_bucket_once",
            ),
        ]
        indexes = [
            models.Index(fields=["resolution", "minute"], name="metric_bucket_age"),
            models.Index(fields=["-minute", "-id"], name="metric_bucket_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.site} {self.label} {self.minute:%Y-%m-%d %H:%M}: {self.n}"


class MetricReset(models.Model):
    """From when on the metrics are shown. Nothing is deleted; the newest row counts."""

    since = models.DateTimeField(db_index=True)
    by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-since"]
        get_latest_by = "since"

    def __str__(self) -> str:
        return f"since {self.since:%Y-%m-%d %H:%M:%S}"
