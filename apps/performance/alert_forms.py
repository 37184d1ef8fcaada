"""Rules and channels as people type them in the admin."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from apps.common.errors import ValidationFailed
from apps.performance.models import AlertRule, NotificationChannel
from apps.performance.models.alerts import EACH_SITE
from apps.performance.services import alert_rules, notification_channels
from apps.tokens.models import Site


class LinesField(forms.Field):
    """A list of texts, one a line; spaces around them and empty lines are left out."""

    widget = UnfoldAdminTextareaWidget

    def to_python(self, value: Any) -> list[str]:
        return [line for line in map(str.strip, str(value or "").splitlines()) if line]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(data) != (initial or [])


class _AboutSite(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A row that names a site by its slug: one that there is, or the one it names already."""

    elsewhere: list[tuple[str, str]]
    site = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        slugs = [*Site.objects.order_by("slug").values_list("slug", flat=True)]
        known = [*self.elsewhere, *((slug, slug) for slug in slugs)]
        now = self.instance.site
        gone = [] if now in dict(known) else [(now, f"{now} (there is no such site)")]
        self.fields["site"].choices = known + gone  # type: ignore[attr-defined]


class AlertRuleForm(_AboutSite):
    elsewhere = [("", "all sites as one"), (EACH_SITE, "each site by itself")]

    class Meta:
        model = AlertRule
        exclude: list[str] = []

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        problem = alert_rules.scope_problem(cleaned.get("metric", ""), cleaned.get("site", ""))
        if problem and not self.errors:
            raise ValidationError({"site": problem})
        return cleaned


class ChannelForm(_AboutSite):
    """The address and the secret go in and never come out."""

    elsewhere = [("", "all sites")]
    recipients = LinesField(required=False, help_text="Mail addresses, one a line; for mail.")
    url = forms.CharField(
        required=False,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "off"}),
        help_text="The address of a webhook or robot; never shown again. Empty keeps it.",
    )
    secret = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(
            render_value=False, attrs={"autocomplete": "new-password"}
        ),
        help_text="What is signed with; never shown again. Empty keeps it for the same host.",
    )

    class Meta:
        model = NotificationChannel
        exclude: list[str] = []

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                notification_channels.check(
                    kind=cleaned["kind"],
                    url=notification_channels.address_of(self.instance, cleaned["url"]),
                    recipients=cleaned["recipients"],
                )
            except ValidationFailed as error:
                raise ValidationError(error.details["errors"]) from error
        return cleaned
