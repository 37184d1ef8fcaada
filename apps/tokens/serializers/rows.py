"""Sites, accounts, and the rows that are only read."""

from typing import Any

from rest_framework import serializers

from apps.common.fields import readable
from apps.common.output import RowOutput
from apps.tokens.connectors.registry import names
from apps.tokens.errors import UnknownSite
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    RecoveryAction,
    Site,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.services import accounts, sites
from apps.tokens.services.checkpoints import SyncStatus

_SITE_FIELDS = [
    "slug",
    "name",
    "enabled",
    "connector",
    "recipe",
    "allowed_hosts",
    "default_ttl_s",
    "safety_margin_s",
    "refresh_lead_s",
    "login_timeout_s",
    "request_timeout_s",
    "max_concurrent",
    "strategy",
    "hand_out",
    "budget_window_s",
    "budget_per_account",
    "budget_per_site",
    "breaker_open_s",
    "breaker_slow_s",
    "closed_hours",
    "keep_warm",
    "warm_hours",
    "time_zone",
    "user_agent",
]


class _Strict:
    """Refuses unknown and read-only fields instead of ignoring them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            writable = {name for name, f in self.fields.items() if not f.read_only}  # type: ignore[attr-defined]
            unknown = sorted(set(data) - writable)
            if unknown:
                raise serializers.ValidationError(
                    {name: ["Unknown or read-only field."] for name in unknown}
                )
        return super().to_internal_value(data)  # type: ignore[misc]


class SiteInput(_Strict, serializers.ModelSerializer[Site]):
    """A site as it is written. The proxy may hold a password: it goes in and never comes out."""

    proxy = serializers.CharField(write_only=True, required=False, allow_blank=True)

    class Meta:
        model = Site
        fields = [*_SITE_FIELDS, "proxy"]

    def validate_connector(self, value: str) -> str:
        if value not in names():
            raise serializers.ValidationError(f"Must be one of: {', '.join(sorted(names()))}.")
        return value

    def create(self, validated_data: dict[str, Any]) -> Site:
        site = Site(**validated_data)
        sites.save(site)
        return site

    def update(self, instance: Site, validated_data: dict[str, Any]) -> Site:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        sites.save(instance)
        return instance


class SiteOutput(RowOutput[Site]):
    accounts_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Site
        fields = [
            *_SITE_FIELDS,
            "token_serial",
            "observed_ttl_s",
            "learned_ttl_s",
            "accounts_count",
            "created_at",
            "updated_at",
        ]
        annotated = ("accounts_count",)


class AccountInput(_Strict, serializers.ModelSerializer[Account]):
    """An account as it is written; `secrets` replaces all of them, and is never given back."""

    site = serializers.CharField(max_length=64, write_only=True)
    secrets = serializers.DictField(
        child=serializers.CharField(max_length=20_000, trim_whitespace=False),
        write_only=True,
        required=False,
    )
    labels = serializers.ListField(
        child=serializers.CharField(max_length=64), required=False, max_length=20
    )

    class Meta:
        model = Account
        fields = ["site", "username", "secrets", "labels", "enabled", "preferred", "needs_action"]
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        slug = attrs.pop("site", None)
        if self.instance is not None:
            if slug not in (None, self.instance.site.slug):
                raise serializers.ValidationError({"site": ["An account stays at its site."]})
            if attrs.get("username", self.instance.username) != self.instance.username:
                raise serializers.ValidationError({"username": ["Make a new account instead."]})
            return attrs
        site = Site.objects.filter(slug=slug).first()
        if site is None:
            raise UnknownSite
        return attrs | {"site": site}

    def create(self, validated_data: dict[str, Any]) -> Account:
        secrets = validated_data.pop("secrets", {})
        account = Account(**validated_data)
        accounts.create(account, secrets)
        return account

    def update(self, instance: Account, validated_data: dict[str, Any]) -> Account:
        secrets = validated_data.pop("secrets", None)
        for name, value in validated_data.items():
            setattr(instance, name, value)
        accounts.update(instance, fields=list(validated_data), secrets=secrets)
        return instance


class AccountOutput(RowOutput[Account]):
    """An account; of its secrets only their names."""

    site = serializers.CharField(source="site.slug")
    secret_names = serializers.SerializerMethodField()

    class Meta:
        model = Account
        fields = [
            "id",
            "site",
            "username",
            "labels",
            "enabled",
            "preferred",
            "secret_names",
            "credential_version",
            "needs_action",
            "cooldown_until",
            "cooldown_reason",
            "success_count",
            "failure_count",
            "last_success_at",
            "last_failure_at",
            "last_failure_code",
            "created_at",
            "updated_at",
        ]

    def get_secret_names(self, account: Account) -> list[str]:
        return sorted(readable(account, "secrets") or {})


class AllowAttemptInput(serializers.Serializer[Any]):
    """`POST accounts/{id}/allow-attempt`."""

    reason = serializers.CharField(max_length=300)


class StoredTokenOutput(RowOutput[StoredToken]):
    """What is known of a token, without the token."""

    site = serializers.CharField(source="account.site.slug")
    account = serializers.CharField(source="account.username")

    class Meta:
        model = StoredToken
        fields = [
            "id",
            "site",
            "account",
            "version",
            "fingerprint",
            "issued_at",
            "expires_at",
            "usable_until",
            "refresh_after",
            "idle_until",
            "revoked_at",
            "revoked_reason",
            "reported_at",
        ]


class TokenRequestOutput(RowOutput[TokenRequest]):
    site = serializers.CharField(source="site.slug")
    account = serializers.CharField(source="account.username", default=None)

    class Meta:
        model = TokenRequest
        fields = [
            "id",
            "site",
            "account",
            "status",
            "stage",
            "reason",
            "queue",
            "attempts",
            "max_attempts",
            "not_before",
            "expires_at",
            "created_at",
            "started_at",
            "finished_at",
            "served_by",
            "token_fingerprint",
            "error_code",
            "error_message",
            "login_s",
        ]


class ProgressOutput(serializers.Serializer[Any]):
    """`GET requests/{id}/status`."""

    status = serializers.CharField()
    stage = serializers.CharField()
    progress = serializers.IntegerField()
    current_step = serializers.CharField()
    estimated_remaining_time = serializers.FloatField()
    ask_again_s = serializers.FloatField(allow_null=True)
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    error_code = serializers.CharField()
    error_message = serializers.CharField(allow_null=True)
    cache_sync_status = serializers.ChoiceField(
        choices=[status.value for status in SyncStatus],
        read_only=True,
        required=False,
        help_text="How the cached progress compares; `unknown`: the database is away.",
    )


class RequestIdOutput(serializers.Serializer[Any]):
    request_id = serializers.UUIDField()


class CancelOutput(serializers.Serializer[Any]):
    cancelled = serializers.BooleanField(help_text="False while others are interested.")


class LoginAttemptOutput(RowOutput[LoginAttempt]):
    site = serializers.CharField(source="site.slug")
    account = serializers.CharField(source="account.username")
    owner = serializers.CharField(source="owner_name")

    class Meta:
        model = LoginAttempt
        fields = [
            "id",
            "request",
            "site",
            "account",
            "owner",
            "started_at",
            "deadline",
            "finished_at",
            "outcome",
            "blame",
            "error_code",
            "error_message",
            "secret_sent_at",
            "resend_in_doubt",
            "concurrency_at_start",
            "used_refresh_token",
        ]
        annotated = ("owner_name",)


class WorkerProcessOutput(RowOutput[WorkerProcess]):
    class Meta:
        model = WorkerProcess
        fields = [
            "id",
            "host",
            "pid",
            "cluster",
            "slots",
            "started_at",
            "lease_until",
            "ended_at",
            "ended_how",
        ]


class RecoveryActionOutput(RowOutput[RecoveryAction]):
    class Meta:
        model = RecoveryAction
        fields = ["id", "at", "kind", "subject", "details"]


class AdmissionLimitsSerializer(_Strict, serializers.ModelSerializer[AdmissionLimits]):
    class Meta:
        model = AdmissionLimits
        exclude = ["id"]
