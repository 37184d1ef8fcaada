"""Pages for rows that are facts."""

from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin


class FactsAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Shows rows; nobody adds, changes or deletes facts by hand."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        fields: list[Any] = super().get_fields(request, obj)
        return [name for name in fields if name not in ("material", "secret", "secrets")]
