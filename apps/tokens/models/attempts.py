"""Work: logins being made, and the processes that make them."""

import uuid
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast, Concat

from apps.tokens.models.requests import TokenRequest
from apps.tokens.models.sites import Account, Site


class WorkerProcess(models.Model):
    """One process that runs logins. One UPDATE of `lease_until` renews all its permits.

    `host`, `pid` and `process_started_at` name the process beyond doubt: a pid alone is reused.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    process_started_at = models.FloatField(help_text="Seconds since the epoch, as the host says.")
    cluster = models.CharField(max_length=64)
    slots = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_how = models.CharField(max_length=32, blank=True)

    class Meta:
        ordering = ["-started_at"]
        verbose_name_plural = "worker processes"
        indexes = [
            models.Index(
                fields=["lease_until"], condition=Q(ended_at=None), name="workers_by_lease"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Outcome(models.TextChoices):
    """How an attempt ended; '' while it is open."""

    OPEN = "", "Open"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    SUPERSEDED = "superseded", "Result refused: the account was changed meanwhile"
    LOST = "lost", "Worker died or went silent"


class LoginAttemptQuerySet(models.QuerySet["LoginAttempt"]):
    def named(self) -> Self:
        """With `owner_name`, the worker as it calls itself."""
        pid = Cast("owner__pid", models.CharField())
        return self.annotate(owner_name=Concat("owner__host", models.Value(":"), pid))


class LoginAttempt(models.Model):
    """One login (or refresh) being made for a request. Open attempts are the permits.

    An attempt is suspect when its owner's lease is over. Its permits return when the owner is
    proven dead, or at `deadline`: until then the site may still be working on it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request = models.ForeignKey(TokenRequest, on_delete=models.CASCADE, related_name="logins")
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="logins")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="logins")
    owner = models.ForeignKey(WorkerProcess, on_delete=models.PROTECT, related_name="logins")
    fence = models.PositiveBigIntegerField()
    credential_version = models.PositiveBigIntegerField()
    concurrency_at_start = models.PositiveIntegerField(
        help_text="Open logins at the site, this one too."
    )
    started_at = models.DateTimeField()
    deadline = models.DateTimeField()
    secret_fingerprint = models.CharField(max_length=64, blank=True)
    secret_sent_at = models.DateTimeField(null=True)
    resend_in_doubt = models.BooleanField(
        default=False, help_text="An unproven secret sent again after a crash."
    )
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(
        max_length=16, choices=Outcome.choices, default=Outcome.OPEN, blank=True
    )
    blame = models.CharField(max_length=16, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    used_refresh_token = models.BooleanField(default=False)

    objects = LoginAttemptQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(outcome=""), name="one_open_login_per_account"
            ),
            models.UniqueConstraint(
                fields=["request"], condition=Q(outcome=""), name="one_open_login_per_request"
            ),
        ]
        indexes = [
            models.Index(fields=["site"], condition=Q(outcome=""), name="open_logins"),
            models.Index(fields=["account", "-started_at"], name="logins_of_account"),
            models.Index(fields=["site", "-started_at"], name="logins_of_site"),
            models.Index(fields=["-started_at"], name="newest_login"),
            models.Index(
                fields=["-started_at"],
                condition=Q(outcome__in=["failed", "lost"]),
                name="newest_failed_login",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.outcome or 'open'})"


class RecoveryAction(models.Model):
    """One repair: what was found broken and what was done about it."""

    at = models.DateTimeField()
    kind = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["-at"], name="newest_recovery")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"


class ClusterBeat(models.Model):
    """A supervisor's question through the queue, and the newest answer.

    A cluster can be wedged while all its processes live (a worker killed while it held the
    queue's pipe); only a task that comes back proves that tasks run.
    """

    cluster = models.CharField(max_length=64)
    host = models.CharField(max_length=200)
    asked_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "host"], name="one_beat_per_cluster"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster} at {self.host}"
