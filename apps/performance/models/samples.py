"""How the machine and our processes were, every ten seconds."""

from django.db import models


class SystemSample(models.Model):
    """One look at one process and its host. Kept for a day; longer spans are in MetricBucket.

    Shares are percent. What one process cannot know, or what concerns the whole installation and
    was looked at by another process, is NULL. `workers` is a list of
    {cluster, host, pid, running: [{request, site, account, since_s}]}.
    """

    at = models.DateTimeField()
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    role = models.CharField(max_length=16)
    cpu_percent = models.FloatField(help_text="Of the host.")
    memory_percent = models.FloatField(help_text="Of the host.")
    process_cpu_percent = models.FloatField(help_text="Of one core.")
    rss_bytes = models.BigIntegerField()
    open_files = models.PositiveIntegerField(null=True)
    threads = models.PositiveIntegerField()
    database_connections = models.PositiveIntegerField(null=True)
    database_connections_max = models.PositiveIntegerField(null=True)
    database_ms = models.FloatField(null=True)
    redis = models.CharField(max_length=16, blank=True)
    queue_depth = models.PositiveIntegerField(null=True)
    in_flight = models.PositiveIntegerField(null=True)
    workers = models.JSONField(default=list)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["at"], name="system_sample_at")]

    def __str__(self) -> str:
        return f"{self.role} {self.host}:{self.pid} {self.at:%Y-%m-%d %H:%M:%S}"
