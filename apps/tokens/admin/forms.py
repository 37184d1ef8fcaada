"""The form of a site: its recipe as people write it, with the line of every mistake."""

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from apps.common.errors import BrokerError
from apps.tokens.connectors import recipe_text
from apps.tokens.connectors.recipe_text import Document, UnreadableText
from apps.tokens.connectors.registry import names
from apps.tokens.errors import InvalidRecipe
from apps.tokens.models import Site
from apps.tokens.services import site_files, sites

CHECKED_TOGETHER: Final = (
    "slug", "connector", "recipe", "allowed_hosts", "closed_hours", "warm_hours", "time_zone",
)  # fmt: skip


class RecipeField(forms.CharField):
    """A recipe as YAML (or JSON, which is read too); becomes a `Document`."""

    widget = UnfoldAdminTextareaWidget(
        attrs={"rows": 30, "spellcheck": "false", "style": "font-family: monospace"}
    )

    def prepare_value(self, value: Any) -> Any:
        return recipe_text.write(value) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        text = str(value or "")
        if not text.strip():
            return Document({})
        try:
            return recipe_text.read(text)
        except UnreadableText as error:
            raise ValidationError(f"Line {error.line}: {error}") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data).value != initial)
        except ValidationError:
            return True


class SiteForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Checks a recipe before it is saved; the proxy goes in and never comes out."""

    recipe = RecipeField(
        required=False, strip=False, help_text="YAML or JSON; docs/connectors/recipes.md."
    )
    # Not `proxy`: the model's field is not editable, and a form may not name such a field.
    proxy_url = forms.CharField(
        required=False,
        widget=UnfoldAdminPasswordWidget(render_value=False),
        help_text="http://user:password@host:port; never shown again. Empty keeps what is there.",
    )

    class Meta:
        model = Site
        exclude: list[str] = []

    def clean_connector(self) -> str:
        value = str(self.cleaned_data["connector"])
        if value not in names():
            raise ValidationError(f"Must be one of: {', '.join(sorted(names()))}.")
        return value

    def clean_recipe(self) -> Any:
        self.document: Document = self.cleaned_data["recipe"]
        return self.document.value

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        # A field that this person may only read is not in the form.
        values = {
            name: cleaned.get(name, getattr(self.instance, name)) for name in CHECKED_TOGETHER
        }
        try:
            sites.check(Site(**values))
        except InvalidRecipe as error:
            faults = site_files.recipe_faults(self.document, (), error)
            self.add_error(
                "recipe", [f"Line {f['line']}: {f['path']}: {f['reason']}" for f in faults]
            )
        except BrokerError as error:
            fields = error.details.get("errors", {}).keys() & self.fields.keys()
            self.add_error(next(iter(fields), None), error.message)
        return cleaned
