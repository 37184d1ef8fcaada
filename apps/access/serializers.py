"""Keys, grants and audit entries as the API shows and takes them."""

from typing import Any

from rest_framework import serializers

from apps.access.contracts import AuditKind, Grant, Scope
from apps.access.models import ApiKey, AuditEntry, SiteGrant
from apps.common.moments import MomentField
from apps.common.output import RowOutput


class GrantOutput(RowOutput[SiteGrant]):
    class Meta:
        model = SiteGrant
        fields = ["site", "account", "label"]
        read_only_fields = fields


class KeyOutput(RowOutput[ApiKey]):
    """A key without its text."""

    username = serializers.CharField(source="user.username", read_only=True)
    grants = GrantOutput(many=True, read_only=True)

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "prefix",
            "username",
            "scopes",
            "grants",
            "rate_limit_per_minute",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "created_at",
        ]
        read_only_fields = fields


class IssuedKeyOutput(KeyOutput):
    """A new key, with its text for the only time."""

    key = serializers.CharField(read_only=True, help_text="Shown once; it cannot be read again.")

    class Meta(KeyOutput.Meta):
        fields = [*KeyOutput.Meta.fields, "key"]
        read_only_fields = fields


class GrantInput(serializers.Serializer[Any]):
    site = serializers.CharField(max_length=100, help_text="Slug of the site, or * for all.")
    account = serializers.CharField(max_length=255, default="", allow_blank=True)
    label = serializers.CharField(max_length=100, default="", allow_blank=True)  # type: ignore[assignment]


class KeyInput(serializers.Serializer[Any]):
    """What a new key shall be."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=[scope.value for scope in Scope]), default=list
    )
    grants = GrantInput(many=True, default=list)
    expires_at = MomentField(default=None, allow_null=True)
    rate_limit_per_minute = serializers.IntegerField(
        min_value=1, max_value=1_000_000, default=None, allow_null=True
    )

    def wanted(self) -> dict[str, Any]:
        """Return the arguments of `services.issue_key`."""
        fields = dict(self.validated_data)
        return fields | {"grants": [Grant(**grant) for grant in fields["grants"]]}


class AuditOutput(RowOutput[AuditEntry]):
    kind = serializers.CharField(help_text=f"One of {', '.join(AuditKind)}.", read_only=True)

    class Meta:
        model = AuditEntry
        fields = [
            "id",
            "at",
            "kind",
            "principal_kind",
            "principal_id",
            "principal_name",
            "key_prefix",
            "site",
            "account",
            "token_fingerprint",
            "cached",
            "purpose",
            "request_id",
            "remote_address",
            "details",
        ]
        read_only_fields = fields
