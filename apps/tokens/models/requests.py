"""Demand: what somebody wants, however many ask for it."""

import uuid
from datetime import datetime
from typing import Final, Self

from django.db import models
from django.db.models import F, Func, Q

from apps.tokens.models.sites import Account, Site


class Status(models.TextChoices):
    """Where a request is. The first three are live; at most one live request has a key."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Awaiting a person"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    DEAD = "dead", "Dead letter"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"


LIVE: Final = (Status.QUEUED, Status.RUNNING, Status.PAUSED)


class Stage(models.TextChoices):
    """What is being done for a live request, in order."""

    QUEUED = "queued", "Queued"
    WAITING = "waiting", "Waiting for its turn"
    SELECTING = "selecting", "Choosing an account"
    LOGGING_IN = "logging_in", "Logging in"
    VERIFYING = "verifying", "Verifying the token"
    STORING = "storing", "Storing the token"
    DONE = "done", "Done"


class Reason(models.TextChoices):
    """Why a login was wanted."""

    NO_TOKEN = "no_token", "No token"
    TOKEN_EXPIRED = "token_expired", "Token expired"
    REFRESH_AHEAD = "refresh_ahead", "Refreshed ahead of its end"
    REJECTED = "rejected", "Rejected by the site"
    MANUAL = "manual", "Asked for by a person"
    WARM_UP = "warm_up", "Warm-up"


class Queue(models.TextChoices):
    """The kinds of work; a setting says which cluster serves which."""

    INTERACTIVE = "interactive", "Interactive"
    REFRESH = "refresh", "Refresh"
    BATCH = "batch", "Batch"
    BROWSER = "browser", "Browser"
    MAINTENANCE = "maintenance", "Maintenance"
    DEFAULT = "default", "Default"


# Without parameters: SQLite uses an index of live requests only where it reads these very words.
_IS_LIVE: Final = Func(
    F("status"),
    template="%(expressions)s IN ('queued', 'running', 'paused')",
    output_field=models.BooleanField(),
)

# Nobody is waiting in front of a screen for these: they leave some permits to those who are.
BACKGROUND: Final = frozenset({Queue.REFRESH, Queue.BATCH, Queue.MAINTENANCE})


class TokenRequestQuerySet(models.QuerySet["TokenRequest"]):
    def live(self) -> Self:
        """Requests that have not ended: by their index, however many have ended before."""
        return self.filter(_IS_LIVE)

    def runnable(self, *, at: datetime) -> Self:
        """Queued requests whose time has come; `order_at` is their order."""
        return self.live().filter(status=Status.QUEUED, not_before__lte=at)


class TokenRequest(models.Model):
    """One wanted token of a site, of any account or of a named one.

    `requested_key` is the account's id, or '' for any account; with the constraint below it makes
    all callers share one request. `order_at` is the queue's order: the time of asking plus a
    handicap for its priority, so that a patient batch request overtakes a fresh interactive one
    in the end. A joiner with a higher priority moves it forward. `not_before` decides; `set_aside`
    only keeps what may not run out of the index in which admission looks for who may.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="requests")
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True, related_name="requests"
    )
    requested_key = models.CharField(max_length=36, blank=True, default="")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    stage = models.CharField(max_length=16, choices=Stage.choices, default=Stage.QUEUED)
    reason = models.CharField(max_length=16, choices=Reason.choices)
    queue = models.CharField(max_length=16, choices=Queue.choices, default=Queue.INTERACTIVE)
    order_at = models.DateTimeField()
    not_before = models.DateTimeField()
    set_aside = models.BooleanField(
        default=False, help_text="Out of its queue until `not_before`; admission puts it back."
    )
    expires_at = models.DateTimeField(help_text="When nobody can be waiting for it any more.")
    newer_than = models.PositiveBigIntegerField(
        default=0, help_text="Only a token of a later version ends this request."
    )
    min_ttl_s = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=3)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    served_by = models.CharField(max_length=200, blank=True, help_text="The account that served.")
    token_fingerprint = models.CharField(max_length=64, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    login_s = models.FloatField(null=True, help_text="Seconds of the login that succeeded.")
    history_pending = models.BooleanField(default=False)
    traceparent = models.CharField(
        max_length=55,
        blank=True,
        default="",
        help_text="The trace of who asked, where one is kept.",
    )

    objects = TokenRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["site", "requested_key"],
                condition=Q(status__in=["queued", "running", "paused"]),
                name="one_live_request_per_key",
            ),
        ]
        indexes = [
            models.Index(
                fields=["queue", "site", "order_at"],
                condition=Q(status="queued", set_aside=False),
                name="queues_of_sites",
            ),
            models.Index(
                fields=["not_before"],
                condition=Q(status="queued", set_aside=True),
                name="set_aside_by_end",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(status__in=["queued", "running", "paused"]),
                name="live_by_end",
            ),
            models.Index(
                fields=["finished_at"], condition=Q(history_pending=True), name="history_pending"
            ),
            models.Index(fields=["-created_at"], name="newest_request"),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"


class Interest(models.Model):
    """Somebody who asked. Detaching ends the interest, not the request."""

    request = models.ForeignKey(TokenRequest, on_delete=models.CASCADE, related_name="interests")
    principal_kind = models.CharField(max_length=8)
    principal_id = models.CharField(max_length=64)
    principal_name = models.CharField(max_length=200, blank=True)
    purpose = models.CharField(max_length=200, blank=True)
    asked_at = models.DateTimeField()
    detached_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["request", "principal_kind", "principal_id"], name="one_interest_each"
            ),
        ]

    def __str__(self) -> str:
        return self.principal_name or self.principal_id
