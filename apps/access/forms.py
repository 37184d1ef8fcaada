"""The admin's form for a new key."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from apps.access.contracts import Grant, Scope
from apps.access.models import ApiKey
from apps.access.selectors import principal_of_user
from apps.access.services import check_issuable
from apps.common.errors import BrokerError

if TYPE_CHECKING:
    KeyForm = forms.ModelForm[ApiKey]
else:
    KeyForm = forms.ModelForm  # knows no type parameter when it runs


class IssueForm(KeyForm):
    """What a new key shall be; the service decides whether the person may give it."""

    # Set on a subclass for each request, as the admin makes the instance.
    issuer: AbstractBaseUser | AnonymousUser

    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope],
        widget=UnfoldAdminSelectMultipleWidget,
        required=False,
    )
    sites = forms.CharField(
        label=_("Sites"),
        help_text=_("One grant a line: site,account,label. A single * is every site."),
        widget=UnfoldAdminTextareaWidget,
        required=False,
    )

    class Meta:
        model = ApiKey
        fields = ["user", "name", "scopes", "rate_limit_per_minute", "expires_at"]
        field_classes = {"expires_at": forms.SplitDateTimeField}
        widgets = {
            "user": UnfoldAdminSelectWidget,
            "name": UnfoldAdminTextInputWidget,
            "rate_limit_per_minute": UnfoldAdminIntegerFieldWidget,
            "expires_at": UnfoldAdminSplitDateTimeWidget,
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                check_issuable(issuer=principal_of_user(self.issuer), **self.wanted())
            except BrokerError as error:
                raise forms.ValidationError(error.message) from error
        return cleaned

    def wanted(self) -> dict[str, Any]:
        """Return the arguments of `services.issue_key`, without who and where. Raises
        ValidationFailed for a line that is no grant."""
        fields = {name: self.cleaned_data[name] for name in self.Meta.fields}
        lines = filter(None, map(str.strip, self.cleaned_data["sites"].splitlines()))
        user = fields.pop("user")
        return fields | {"user_id": user.pk, "grants": [Grant.parse(line) for line in lines]}
