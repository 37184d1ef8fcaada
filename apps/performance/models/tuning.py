"""Rows of the concurrency tuning: within which bounds, what is known, and every change."""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from apps.tokens.models import Site


class TuningBounds(models.Model):
    """Between which limits tuning may move a site's limit, or (no site) the one over all sites.

    Recommendations keep to the bounds too. Without `automatic` nothing moves by itself.
    """

    site = models.ForeignKey(
        Site,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tuning_bounds",
        help_text="Empty: the limit over all sites.",
    )
    automatic = models.BooleanField(default=False, help_text="Adapt the limit without asking.")
    lowest = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    highest = models.PositiveIntegerField(default=10, validators=[MinValueValidator(1)])

    class Meta:
        verbose_name = verbose_name_plural = "tuning bounds"
        ordering = ["site__slug"]
        constraints = [
            models.UniqueConstraint(fields=["site"], name="one_bounds_per_site"),
            models.UniqueConstraint(
                models.Value(1),
                condition=Q(site=None),
                name="one_bounds_over_all",
                violation_error_message=(
                    "There are bounds for the limit over all sites already: change those, or name "
                    "a site."
                ),
            ),
            models.CheckConstraint(
                condition=Q(lowest__gte=1) & Q(highest__gte=F("lowest")),
                name="bounds_in_order",
                violation_error_message=(
                    "The highest limit must be at least the lowest, and both at least 1."
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.site or 'all sites'}: {self.lowest} to {self.highest}"


class TuningState(models.Model):
    """What the automatic mode knows of a site: how far it has read, and its rule's memory."""

    site = models.OneToOneField(
        Site, on_delete=models.CASCADE, related_name="tuning_state", primary_key=True
    )
    version = models.PositiveBigIntegerField(default=0)
    read_to = models.DateTimeField(help_text="Logins that ended until then are taken in.")
    memory = models.JSONField(default=dict)

    class Meta:
        ordering = ["site__slug"]

    def __str__(self) -> str:
        return f"{self.site_id} (version {self.version})"


class LimitChange(models.Model):
    """One change of one limit, why, and the numbers behind it. `site` is a slug; '' means all.

    NULL stands for "no number of its own": the general limit holds.
    """

    at = models.DateTimeField()
    site = models.CharField(max_length=64, blank=True)
    before = models.PositiveIntegerField(null=True)
    after = models.PositiveIntegerField(null=True)
    reason = models.CharField(max_length=500)
    numbers = models.JSONField(default=dict)
    by = models.CharField(max_length=200, blank=True, help_text="Empty: the automatic mode.")
    automatic = models.BooleanField(default=False)
    reverts = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, related_name="reverted_by"
    )

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["site", "-at"], name="limit_changes_of_site")]

    def __str__(self) -> str:
        return f"{self.site or 'all sites'}: {self.before} → {self.after}"
