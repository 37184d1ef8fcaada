"""The lease under which upkeep runs, so that two crons do not overlap."""

import uuid

from django.db import models


class UpkeepLease(models.Model):
    """Who runs the upkeep now. A holder that dies stops renewing, and the lease comes back."""

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.UUIDField(default=uuid.uuid4)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    process_started_at = models.FloatField(help_text="Seconds since the epoch, as the host says.")
    taken_at = models.DateTimeField()
    lease_until = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} by {self.host}:{self.pid} until {self.lease_until:%H:%M:%S}"
