"""Filters that lists share."""

from typing import Any

import django_filters


class AnyOfFilter(django_filters.MultipleChoiceFilter):  # type: ignore[misc]  # it ships no types
    """Rows whose own column has any of the values given.

    The library would add DISTINCT, for columns of related rows: then a count compares whole rows.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"distinct": False, **options})
