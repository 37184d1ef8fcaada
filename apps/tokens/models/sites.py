"""Sites, and the accounts that log in there."""

import uuid
from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Coalesce

from apps.common.fields import EncryptedJSONField
from apps.common.ordered_json import OrderedJSONField


class Strategy(models.TextChoices):
    """How an account is chosen among the eligible ones."""

    BEST_SCORE = "best_score", "Best score"
    LEAST_RECENTLY_USED = "least_recently_used", "Least recently used"
    ROUND_ROBIN = "round_robin", "Round robin"


class HandOut(models.TextChoices):
    """Which of several valid tokens a caller who named no account gets."""

    BEST = "best", "The one that lives longest"
    STICKY = "sticky", "The same one for the same caller"
    SPREAD = "spread", "A random one"


class SiteQuerySet(models.QuerySet["Site"]):
    def with_counts(self) -> Self:
        """With `accounts_count`, in a way that costs nothing where it is not read."""
        own = Account.objects.filter(site=models.OuterRef("pk")).order_by().values("site")
        counted = models.Subquery(own.annotate(n=models.Count("pk")).values("n"))
        return self.annotate(accounts_count=Coalesce(counted, 0))


class Site(models.Model):
    """Something one logs in to. `recipe` is checked by the site's connector before it is saved."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(
        max_length=64,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9_-]*\Z", "Use a-z, 0-9, _ and -.")],
    )
    name = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(default=True)
    connector = models.CharField(max_length=64, default="http_recipe")
    # Constants and `let` may use those before them.
    recipe = OrderedJSONField(default=dict, blank=True)
    allowed_hosts = models.JSONField(
        default=list,
        blank=True,
        help_text="The only hosts a login may talk to: host, host:port or *.host.",
    )
    default_ttl_s = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1)],
        help_text="How long a token lives where the site does not say.",
    )
    safety_margin_s = models.PositiveIntegerField(
        default=30, help_text="A token is not handed out this short before its end."
    )
    refresh_lead_s = models.PositiveIntegerField(
        default=300,
        help_text="How long before its end a token is renewed; at most a quarter of its life.",
    )
    login_timeout_s = models.PositiveIntegerField(
        default=120, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    request_timeout_s = models.PositiveIntegerField(
        default=30, validators=[MinValueValidator(1), MaxValueValidator(600)]
    )
    max_concurrent = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Logins at once at this site; empty for the general limit.",
    )
    strategy = models.CharField(
        max_length=32, choices=Strategy.choices, default=Strategy.BEST_SCORE
    )
    hand_out = models.CharField(max_length=16, choices=HandOut.choices, default=HandOut.BEST)
    budget_window_s = models.PositiveIntegerField(
        default=3600, validators=[MinValueValidator(60)], help_text="The window of both budgets."
    )
    budget_per_account = models.PositiveIntegerField(
        default=20, validators=[MinValueValidator(1)], help_text="Logins of an account a window."
    )
    budget_per_site = models.PositiveIntegerField(
        default=600, validators=[MinValueValidator(1)], help_text="Logins at this site a window."
    )
    cooldown_until = models.DateTimeField(
        null=True, blank=True, help_text="The site asked to slow down until then."
    )
    breaker_open_s = models.PositiveIntegerField(
        default=300,
        validators=[MinValueValidator(1)],
        help_text="How long the breaker opens first.",
    )
    breaker_slow_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="A login slower than this counts as a failure; empty: no."
    )
    paused = models.BooleanField(default=False, help_text="Nothing logs in here.")
    paused_until = models.DateTimeField(
        null=True, blank=True, help_text="When the pause ends by itself; empty: by hand."
    )
    closed_hours = models.JSONField(
        default=list,
        blank=True,
        help_text='When nothing logs in: [{"days": ["sat"], "from": "00:00", "to": "24:00"}]',
    )
    time_zone = models.CharField(max_length=64, default="UTC", help_text="Of the closed hours.")
    keep_warm = models.PositiveIntegerField(
        default=0, help_text="Accounts whose tokens are kept fresh though nobody asks."
    )
    warm_hours = models.JSONField(
        default=list,
        blank=True,
        help_text="When to keep them warm, as closed hours; empty: always.",
    )
    user_agent = models.CharField(max_length=300, blank=True)
    proxy = EncryptedJSONField(null=True, blank=True)
    token_serial = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="The version of the newest token of any account."
    )
    learned_ttl_s = models.PositiveIntegerField(
        null=True, editable=False, help_text="How long tokens really work, where that is shorter."
    )
    observed_ttl_s = models.PositiveIntegerField(
        null=True, editable=False, help_text="The life of the newest token, as the site gave it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SiteQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Account(models.Model):
    """One login at one site.

    `fence` and `credential_version` are copied into every login attempt and compared where its
    result is written: an edit of the secret, or a revocation, bumps them, so that a late verdict
    about the old world is refused. Save secrets through `services.accounts`, never by hand.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="accounts")
    username = models.CharField(max_length=200)
    labels = models.JSONField(default=list, blank=True)
    enabled = models.BooleanField(default=True)
    preferred = models.BooleanField(default=False)
    secrets = EncryptedJSONField(null=True, blank=True)
    secret_fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    credential_version = models.PositiveBigIntegerField(default=1, editable=False)
    fence = models.PositiveBigIntegerField(default=1, editable=False)
    needs_action = models.CharField(
        max_length=300, blank=True, help_text="What a person must do at the site; empty if nothing."
    )
    cooldown_until = models.DateTimeField(null=True, blank=True)
    cooldown_reason = models.CharField(max_length=64, blank=True)
    failures_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    success_count = models.PositiveIntegerField(default=0, editable=False)
    failure_count = models.PositiveIntegerField(default=0, editable=False)
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_failure_at = models.DateTimeField(null=True, editable=False)
    last_failure_code = models.CharField(max_length=64, blank=True, editable=False)
    last_attempt_at = models.DateTimeField(null=True, editable=False)
    last_totp_step = models.BigIntegerField(
        default=0, editable=False, help_text="The newest time step whose one-time code was used."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["site", "username"]
        constraints = [
            models.UniqueConstraint(fields=["site", "username"], name="one_account_per_username"),
        ]

    def __str__(self) -> str:
        return self.username


class SecretVerdict(models.Model):
    """What is known of one static secret of one account; the secret itself is not kept.

    A secret that is `wrong` is never sent again. `allowed_once_at` is a privileged person's word
    that it may be, exactly once (portals call a wrong captcha a wrong password).
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="verdicts")
    fingerprint = models.CharField(max_length=64)
    proven_at = models.DateTimeField(null=True, help_text="When it last worked.")
    wrong_at = models.DateTimeField(null=True, help_text="When the site called it wrong.")
    allowed_once_at = models.DateTimeField(null=True)
    allowed_once_by = models.CharField(max_length=200, blank=True)
    allowed_once_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "fingerprint"], name="one_secret_verdict"),
        ]

    def __str__(self) -> str:
        return "wrong" if self.wrong_at else "proven" if self.proven_at else "unknown"
