"""The limits of A6, as a row that a person edits; they hold from the next admission on."""

from collections.abc import Mapping
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class AdmissionLimits(models.Model):
    """One row. Durations in seconds."""

    max_concurrent = models.PositiveIntegerField(
        default=3, validators=[MinValueValidator(1)], help_text="Logins at once, over all sites."
    )
    max_concurrent_per_site = models.PositiveIntegerField(
        default=2,
        validators=[MinValueValidator(1)],
        help_text="Logins at once at one site, where the site has no number of its own.",
    )
    reserved_for_interactive = models.PositiveIntegerField(
        default=1, help_text="Permits that refresh and batch logins leave free."
    )
    paused = models.BooleanField(default=False, help_text="Nothing logs in anywhere.")
    acquisition_timeout_s = models.PositiveIntegerField(
        default=300,
        validators=[MinValueValidator(1)],
        help_text="How long an interactive request lives after the last asking.",
    )
    queue_timeout_s = models.PositiveIntegerField(
        default=60,
        validators=[MinValueValidator(1)],
        help_text="How long an interactive caller is kept waiting at most.",
    )
    background_timeout_s = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1)],
        help_text="How long a refresh, warm-up or batch request lives.",
    )
    lease_s = models.PositiveIntegerField(
        default=30,
        validators=[MinValueValidator(2), MaxValueValidator(600)],
        help_text="How long a silent worker keeps its permits before it is looked into.",
    )
    max_attempts = models.PositiveIntegerField(
        default=3, validators=[MinValueValidator(1)], help_text="Logins for one request at most."
    )
    in_doubt_resends = models.PositiveIntegerField(
        default=1,
        validators=[MaxValueValidator(1)],
        help_text="How often a secret that never worked is sent again after a crash (0 or 1).",
    )

    class Meta:
        verbose_name = verbose_name_plural = "admission limits"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_row_of_limits")]

    def __str__(self) -> str:
        return "Admission limits"

    @classmethod
    def current(cls) -> "AdmissionLimits":
        """Return the row, or the defaults where nobody has made it yet."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)

    @classmethod
    def change(cls, values: Mapping[str, Any]) -> None:
        """Set these fields and no others: somebody else may be changing another at this moment."""
        cls.objects.get_or_create(pk=1)
        if values:
            cls.objects.filter(pk=1).update(**values)
