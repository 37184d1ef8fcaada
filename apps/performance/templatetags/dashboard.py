"""How the dashboard writes numbers, and where it leads to."""

from django import template
from django.template import Context
from django.urls import reverse

from apps.performance.services.dashboard_figures import NOTHING
from apps.performance.services.dashboard_figures import seconds as written_seconds

register = template.Library()


@register.filter
def seconds(value: float | None) -> str:
    """Return a duration as people write it."""
    return NOTHING if value is None else written_seconds(value)


@register.filter
def share_of(part: int, whole: int) -> int:
    """Return a part as percent of the whole, for the width of a bar."""
    return round(100 * part / whole) if whole else 0


@register.simple_tag(takes_context=True)
def page_of(context: Context, model: str, query: str = "") -> str:
    """Return the address of a model's list (`app.model`); empty if this person may not see it."""
    app, _, name = model.partition(".")
    if not context["request"].user.has_perm(f"{app}.view_{name}"):
        return ""
    address = reverse(f"admin:{app}_{name}_changelist")
    return f"{address}?{query}" if query else address
