"""What the sites gave us: the current token of each account, and its refresh token."""

import uuid
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from apps.common.fields import EncryptedJSONField
from apps.tokens.models.sites import Account


class StoredTokenQuerySet(models.QuerySet["StoredToken"]):
    def usable(self, *, at: datetime) -> Self:
        """Tokens that may be handed out: not revoked, not at their end, not idle for too long."""
        alive = Q(idle_until__isnull=True) | Q(idle_until__gt=at)
        return self.filter(alive, revoked_at=None, usable_until__gt=at)


class StoredToken(models.Model):
    """The newest token of an account, replaced in place.

    `version` grows over all tokens of a site, so that "newer than the one I know" can be asked of
    any account. `usable_until` is `expires_at` less the site's safety margin.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="token")
    version = models.PositiveBigIntegerField()
    fingerprint = models.CharField(max_length=64)
    material = EncryptedJSONField()
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    usable_until = models.DateTimeField()
    refresh_after = models.DateTimeField()
    idle_ttl_s = models.PositiveIntegerField(null=True)
    idle_until = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    revoked_reason = models.CharField(max_length=64, blank=True)
    reported_at = models.DateTimeField(
        null=True, help_text="When a consumer reported it rejected; cleared by a probe's verdict."
    )
    probe_until = models.DateTimeField(null=True, help_text="The lease of a running probe.")

    objects = StoredTokenQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["refresh_after"], condition=Q(revoked_at=None), name="to_refresh"),
            models.Index(
                fields=["reported_at"], condition=Q(reported_at__isnull=False), name="to_probe"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.fingerprint} (version {self.version})"


class RefreshToken(models.Model):
    """The one refresh token of an account that may still be valid.

    It is replaced by lineage: whoever holds the child of `fingerprint` may write it, whatever
    the fence says, because a late worker may hold the only valid one. `sent_by` journals a
    refresh whose answer is not known yet: until it is, the token is in doubt and not sent again.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="refresh_token")
    secret = EncryptedJSONField()
    fingerprint = models.CharField(max_length=64)
    parent_fingerprint = models.CharField(max_length=64, blank=True)
    generation = models.PositiveIntegerField(default=1)
    expires_at = models.DateTimeField(null=True)
    stored_at = models.DateTimeField()
    sent_by = models.UUIDField(null=True, help_text="The attempt that sent it last.")
    sent_at = models.DateTimeField(null=True)
    rejected_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.fingerprint} (generation {self.generation})"


class TokenReport(models.Model):
    """One consumer's word that the site rejected one token, named by its fingerprint."""

    token = models.ForeignKey(StoredToken, on_delete=models.CASCADE, related_name="reports")
    fingerprint = models.CharField(max_length=64)
    principal_kind = models.CharField(max_length=8)
    principal_id = models.CharField(max_length=64)
    principal_name = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()
    evicted = models.BooleanField(default=False, help_text="This report alone dropped the token.")

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["token", "fingerprint", "principal_kind", "principal_id"],
                name="one_report_each",
            ),
        ]
        indexes = [models.Index(fields=["principal_id", "-at"], name="reports_of_caller")]

    def __str__(self) -> str:
        return f"{self.fingerprint} by {self.principal_name}"
