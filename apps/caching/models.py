"""Rows of the cache: how namespaces cache, which values still count, and what the layers did."""

from datetime import datetime
from typing import ClassVar, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.caching.contracts import Layer, Policy
from apps.caching.keys import NAMESPACE
from apps.caching.policies import ALWAYS_SECRET

YEAR_S = 366 * 86_400
_name = RegexValidator(rf"^{NAMESPACE.pattern}\Z", _("Use lower-case letters, digits and _."))


class CachePolicy(models.Model):
    """How one namespace caches. Every process applies a change within seconds."""

    namespace = models.CharField(_("namespace"), max_length=40, unique=True, validators=[_name])
    ttl_s = models.FloatField(
        _("life (s)"),
        default=3_600,
        validators=[MinValueValidator(0.1), MaxValueValidator(YEAR_S)],
        help_text=_("How long a value is fresh."),
    )
    l1_ttl_s = models.FloatField(
        _("life in a process (s)"),
        default=3_600,
        validators=[MinValueValidator(0), MaxValueValidator(YEAR_S)],
        help_text=_("0 keeps nothing in the processes. Tokens and credentials: at most 5."),
    )
    l1_entries = models.PositiveIntegerField(
        _("entries in a process"),
        default=1_000,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
    )
    jitter = models.FloatField(
        _("jitter"),
        default=0.1,
        validators=[MinValueValidator(0), MaxValueValidator(0.9)],
        help_text=_("Share of the life that may be taken off at random, 0 to 0.9."),
    )
    negative_ttl_s = models.FloatField(
        _("life of nothing (s)"),
        default=30,
        validators=[MinValueValidator(0), MaxValueValidator(YEAR_S)],
        help_text=_("How long it is remembered that there is no value; 0: not at all."),
    )
    stale_if_error_s = models.FloatField(
        _("served when the database is down (s)"),
        default=900,
        validators=[MinValueValidator(0), MaxValueValidator(30 * 86_400)],
        help_text=_("How long after its life a value may stand in for one that cannot be loaded."),
    )
    early_refresh = models.FloatField(
        _("early refresh"),
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(0.9)],
        help_text=_("In this last share of its life a value is renewed in the background."),
    )
    secret = models.BooleanField(
        _("secret"), default=False, help_text=_("Values are encrypted, in Redis and in memory.")
    )
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering = ["namespace"]
        verbose_name = _("cache policy")
        verbose_name_plural = _("cache policies")

    def __str__(self) -> str:
        return self.namespace

    def clean(self) -> None:
        """Refuse what the cache would overrule. Raises ValidationError."""
        if self.namespace in ALWAYS_SECRET and not self.secret:
            raise ValidationError({"secret": _("This namespace always holds secrets.")})
        if self.secret and self.l1_ttl_s > settings.LATCHKEY_L1_MAX_AGE_S:
            raise ValidationError(
                {
                    "l1_ttl_s": _("Secrets stay in a process for at most %(limit)g s.")
                    % {"limit": settings.LATCHKEY_L1_MAX_AGE_S}
                }
            )

    def to_contract(self) -> Policy:
        return Policy(
            namespace=self.namespace,
            ttl_s=self.ttl_s,
            l1_ttl_s=self.l1_ttl_s,
            l1_entries=self.l1_entries,
            jitter=self.jitter,
            negative_ttl_s=self.negative_ttl_s,
            stale_if_error_s=self.stale_if_error_s,
            early_refresh=self.early_refresh,
            secret=self.secret,
        )


class CacheGeneration(models.Model):
    """Which shared values still count, where Redis could not be told to forget them.

    The token is random: a number that counts would come back after a restore.
    """

    namespace = models.CharField(_("namespace"), max_length=40, unique=True)
    token = models.CharField(_("token"), max_length=16)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        ordering = ["namespace"]
        verbose_name = _("cache generation")
        verbose_name_plural = _("cache generations")

    def __str__(self) -> str:
        return self.namespace


class CacheUsageQuerySet(models.QuerySet["CacheUsage"]):
    """Filters on usage."""

    def since(self, moment: datetime) -> Self:
        return self.filter(minute__gte=moment)

    def before(self, moment: datetime) -> Self:
        return self.filter(minute__lt=moment)


class CacheUsage(models.Model):
    """What a layer of a namespace did in one minute, summed over all processes.

    `entries` and `bytes` are sums of one reading a process and minute.
    """

    LAYERS: ClassVar = [(layer.value, layer.value.upper()) for layer in Layer]

    namespace = models.CharField(_("namespace"), max_length=40)
    layer = models.CharField(_("layer"), max_length=8, choices=LAYERS)
    minute = models.DateTimeField(_("minute"))
    hits = models.BigIntegerField(_("hits"), default=0)
    misses = models.BigIntegerField(_("misses"), default=0)
    negative_hits = models.BigIntegerField(_("hits on nothing"), default=0)
    stale_served = models.BigIntegerField(_("stale served"), default=0)
    loads = models.BigIntegerField(_("loads"), default=0)
    load_ms = models.FloatField(_("load time (ms)"), default=0)
    errors = models.BigIntegerField(_("errors"), default=0)
    evictions = models.BigIntegerField(_("evictions"), default=0)
    entries = models.BigIntegerField(_("entries"), default=0)
    bytes = models.BigIntegerField(_("bytes"), default=0)

    objects = CacheUsageQuerySet.as_manager()

    class Meta:
        ordering = ["-minute", "namespace", "layer"]
        verbose_name = _("cache usage")
        verbose_name_plural = _("cache usage")
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "namespace", "layer"], name="caching_usage_once_a_minute"
            )
        ]

    def __str__(self) -> str:
        return f"{self.namespace} {self.layer} {self.minute:%H:%M}"
