"""Keys, what they may be used for, what was done with them, and how often.

Sites and accounts are named by slug and username: these rows outlive them, and this app must
not know the token app.
"""

import uuid
from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.access import keytext
from apps.common import clock


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Filters of keys; time is an argument."""

    def usable(self, *, at: datetime) -> Self:
        """Neither revoked nor expired, and the user may still log in."""
        return self.filter(revoked_at=None, user__is_active=True).exclude(expires_at__lte=at)


class ApiKey(models.Model):
    """An API key. The key itself is shown once; the row holds its digest and stays for ever."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # PROTECT: a user with keys is deactivated, not deleted, or the audit would point nowhere.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="api_keys"
    )
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=keytext.PREFIX_CHARACTERS, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list, blank=True)
    rate_limit_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["-created_at", "id"]
        permissions = [
            ("use_any_site", "Can ask for tokens of any site"),
            ("read_tokens", "Can read tokens"),
            ("change_allowed_hosts", "Can change the hosts a site may talk to"),
            ("operate", "Can run operations: health checks, login attempts, unblocking"),
            ("export_tokens", "Can export tokens"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(rate_limit_per_minute=None) | Q(rate_limit_per_minute__gte=1),
                name="access_key_rate_limit_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (lk_{self.prefix}_…)"


class SiteGrant(models.Model):
    """Which site's tokens a key may ask for; '' means any account, any label."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="grants")
    site = models.CharField(max_length=100, help_text=_("Slug of the site, or * for all."))
    account = models.CharField(max_length=255, blank=True, default="")
    label = models.CharField(max_length=100, blank=True, default="")

    class Meta:
        verbose_name = _("site grant")
        verbose_name_plural = _("site grants")
        ordering = ["site", "account", "label"]
        constraints = [
            models.UniqueConstraint(
                fields=["key", "site", "account", "label"], name="access_grant_once"
            ),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, (self.site, self.account, self.label)))


class AuditEntry(models.Model):
    """One thing somebody did, as it was written to a journal when it happened."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # The journal line's own name: whatever is imported twice is stored once.
    uuid = models.UUIDField(unique=True, editable=False)
    kind = models.CharField(max_length=32)
    at = models.DateTimeField()
    # Nothing is required of a line: an odd one is worth more in the table than outside of it.
    principal_kind = models.CharField(max_length=16, blank=True)
    principal_id = models.CharField(max_length=64, blank=True)
    principal_name = models.CharField(max_length=150, blank=True)
    key_prefix = models.CharField(max_length=16, blank=True)
    site = models.CharField(max_length=100, blank=True)
    account = models.CharField(max_length=255, blank=True)
    token_fingerprint = models.CharField(max_length=64, blank=True)
    cached = models.BooleanField(null=True, blank=True)
    purpose = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    remote_address = models.CharField(max_length=64, blank=True)
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="access_audit_at"),
            models.Index(fields=["site", "account", "-at"], name="access_audit_account"),
            models.Index(fields=["site", "-at", "-id"], name="access_audit_site"),
            models.Index(fields=["key_prefix", "-at"], name="access_audit_key"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind} {self.principal_name} {self.site}"


class RateWindow(models.Model):
    """How much of one minute's allowance the processes have taken for one caller."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    principal = models.CharField(max_length=80, help_text=_("key:<id> or user:<id>"))
    starts_at = models.DateTimeField(db_index=True)
    used = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("rate window")
        verbose_name_plural = _("rate windows")
        ordering = ["-starts_at", "principal"]
        constraints = [
            models.UniqueConstraint(fields=["principal", "starts_at"], name="access_window_once"),
        ]

    def __str__(self) -> str:
        return f"{self.principal} {self.starts_at:%Y-%m-%d %H:%M} {self.used}"
