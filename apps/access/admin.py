"""Keys, grants, audit and rate windows in the admin: facts, read-only."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline

from apps.access import services
from apps.access.forms import IssueForm
from apps.access.models import ApiKey, AuditEntry, RateWindow, SiteGrant
from apps.access.selectors import principal_of_user


class ReadOnly:
    """To be looked at, not to be edited."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SiteGrantInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = SiteGrant
    extra = 0


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    """Keys are issued and revoked; nothing else about them changes, and none is deleted."""

    list_display = ["name", "prefix", "user", "created_at", "expires_at", "revoked_at"]
    list_filter = ["revoked_at", "user"]
    search_fields = ["name", "prefix", "user__username"]
    list_select_related = ["user"]
    actions = ["revoke"]

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, **kwargs)
        return type("IssueForm", (IssueForm,), {"issuer": request.user})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return [*IssueForm.Meta.fields, "sites"]
        return [field.name for field in ApiKey._meta.fields if field.name not in ("id", "digest")]

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [SiteGrantInline] if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Named by the action; Django's own permission to change keys stands for it."""
        return request.user.has_perm("access.change_apikey")

    def save_model(
        self, request: HttpRequest, obj: ApiKey, form: "ModelForm[ApiKey]", change: bool
    ) -> None:
        """Issue the key and show its text, once."""
        if not isinstance(form, IssueForm):
            raise TypeError("A key is issued, never edited.")
        key, raw = services.issue_key(
            issuer=principal_of_user(request.user),
            remote_address=request.META.get("REMOTE_ADDR", ""),
            **form.wanted(),
        )
        obj.__dict__.update(key.__dict__)
        text = gettext("The key is %(key)s. Copy it now: it is not shown again.")
        self.message_user(request, text % {"key": raw}, messages.WARNING)

    @admin.action(description=_("Revoke the selected keys"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        by = principal_of_user(request.user)
        address = request.META.get("REMOTE_ADDR", "")
        revoked = sum(services.revoke_key(key, by=by, remote_address=address) for key in queryset)
        self.message_user(request, gettext("%(n)d keys revoked.") % {"n": revoked})


@admin.register(SiteGrant)
class SiteGrantAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ["key", "site", "account", "label"]
    search_fields = ["site", "account", "label", "key__name", "key__prefix"]
    list_select_related = ["key"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ["at", "kind", "principal_name", "key_prefix", "site", "account", "purpose"]
    list_filter = ["kind", "at"]
    search_fields = ["site", "account", "key_prefix", "principal_name", "request_id"]


@admin.register(RateWindow)
class RateWindowAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ["starts_at", "principal", "used"]
    search_fields = ["principal"]
