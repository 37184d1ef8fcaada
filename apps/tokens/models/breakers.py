"""The circuit breaker of a site, as a row that all processes share, and its history."""

from django.db import models

from apps.tokens.models.sites import Site


class BreakerState(models.TextChoices):
    """`half_open` lets exactly one probe login through; the forced states are a person's word."""

    CLOSED = "closed", "Closed"
    OPEN = "open", "Open"
    HALF_OPEN = "half_open", "Half open"
    FORCED_OPEN = "forced_open", "Forced open"
    FORCED_CLOSED = "forced_closed", "Forced closed"


class SiteBreaker(models.Model):
    """Protects a site that fails. A site without a row is closed."""

    site = models.OneToOneField(
        Site, on_delete=models.CASCADE, related_name="breaker", primary_key=True
    )
    state = models.CharField(
        max_length=16, choices=BreakerState.choices, default=BreakerState.CLOSED
    )
    failures_in_a_row = models.PositiveIntegerField(default=0)
    trips = models.PositiveIntegerField(default=0, help_text="Openings since it last closed.")
    open_until = models.DateTimeField(null=True)
    counted_since = models.DateTimeField(
        null=True, help_text="Logins that ended before this do not count for the failure rate."
    )
    probe = models.UUIDField(null=True, help_text="The login that probes the site.")
    health_until = models.DateTimeField(null=True, help_text="The lease of a health request.")
    healthy_at = models.DateTimeField(null=True, help_text="When the health request said it is up.")
    changed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["site__slug"]
        indexes = [
            models.Index(
                fields=["open_until"],
                condition=models.Q(state__in=["open", "half_open"]),
                name="breakers_to_probe",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.site_id}: {self.state}"


class BreakerTransition(models.Model):
    """One change of a breaker's state, and why."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="breaker_transitions")
    at = models.DateTimeField()
    before = models.CharField(max_length=16, choices=BreakerState.choices)
    after = models.CharField(max_length=16, choices=BreakerState.choices)
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=200, blank=True, help_text="The person; empty for the rule.")

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["site", "-at"], name="transitions_of_site")]

    def __str__(self) -> str:
        return f"{self.before} → {self.after}"
