"""Accounts: secrets go in through a form and never come out."""

from typing import Any

import orjson
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord, Scope
from apps.access.selectors import principal_of_user
from apps.common.fields import readable
from apps.common.request_context import current_request_id
from apps.tokens.admin.warming import warm_up
from apps.tokens.models import Account
from apps.tokens.services import accounts


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A password field for the usual case, and JSON for everything else."""

    password = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(
            render_value=False, attrs={"autocomplete": "new-password"}
        ),
        help_text="Never shown again. Empty keeps what is there.",
    )
    other_secrets = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=(
            'JSON object of the other secrets, such as {"totp_secret": "…", "client_secret": "…"}. '
            "Never shown again. Empty keeps what is there; a name with an empty text is removed."
        ),
    )

    class Meta:
        model = Account
        fields = ["site", "username", "labels", "enabled", "preferred", "needs_action"]

    def clean_other_secrets(self) -> dict[str, str]:
        text = self.cleaned_data["other_secrets"].strip()
        if not text:
            return {}
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ValidationError("This is not valid JSON.") from None
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ValidationError("Must be a JSON object of texts.")
        return value

    def new_secrets(self) -> dict[str, str]:
        """Return the secrets after this form, given those before are merged by the caller."""
        found = dict(self.cleaned_data["other_secrets"])
        if self.cleaned_data["password"]:
            found["password"] = self.cleaned_data["password"]
        return found


@admin.register(Account)
class AccountAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    form = AccountForm
    list_display = [
        "username",
        "site",
        "enabled",
        "preferred",
        "success_count",
        "failure_count",
        "last_success_at",
        "cooldown_until",
        "needs_action",
    ]
    list_filter = ["site", "enabled", "preferred", "cooldown_reason"]
    search_fields = ["username", "site__slug"]
    list_select_related = ["site"]
    actions = ["warm_up", "allow_attempt"]
    readonly_fields = [
        "secret_names",
        "credential_version",
        "cooldown_until",
        "cooldown_reason",
        "success_count",
        "failure_count",
        "failures_in_a_row",
        "last_success_at",
        "last_failure_at",
        "last_failure_code",
        "last_attempt_at",
    ]

    @admin.display(description="Secrets that are set")
    def secret_names(self, account: Account) -> str:
        return ", ".join(sorted(readable(account, "secrets") or {})) or "none"

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> list[str]:
        fixed = ["site", "username"] if obj else []
        return [*fixed, *self.readonly_fields]

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        given = form.new_secrets()
        if not change:
            accounts.create(obj, given)
            return
        fields = [name for name in form.changed_data if name in AccountForm.Meta.fields]
        secrets = {**(readable(obj, "secrets") or {}), **given} if given else None
        accounts.update(obj, fields=fields, secrets=secrets)

    @admin.action(description="Warm up: queue the logins that are missing", permissions=["operate"])
    def warm_up(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        named: dict[str, list[str]] = {}
        for account in queryset.select_related("site"):
            named.setdefault(account.site.slug, []).append(account.username)
        for slug, usernames in named.items():
            warm_up(request, [slug], usernames)

    @admin.action(
        description="Allow one more attempt with the present secret", permissions=["operate"]
    )
    def allow_attempt(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """The reason is the person's name and this page; the API takes a written one."""
        principal = principal_of_user(request.user)
        reason = f"allowed in the admin by {principal.name}"
        for account in queryset.select_related("site"):
            audit.record(
                AuditRecord.by(
                    principal,
                    kind=AuditKind.ALLOW_ATTEMPT,
                    site=account.site.slug,
                    account=account.username,
                    details={"reason": reason},
                    request_id=current_request_id(),
                    remote_address=request.META.get("REMOTE_ADDR", ""),
                )
            )
            accounts.allow_one_attempt(account, by=principal.name, reason=reason)
        messages.success(request, f"One more attempt allowed for {len(queryset)} accounts.")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return principal_of_user(request.user).has(Scope.OPERATE)

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        accounts.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for account in queryset.select_related("site"):
            accounts.remove(account)
