"""Pages of lists: by number, with a size the caller may choose."""

from functools import cached_property, partial
from typing import Any, Final

from django.core.paginator import Page, Paginator
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response

from apps.common.output import RowOutput

COUNT_LIMIT: Final = 10_000


class RowPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Reads the rows of a page as tuples of these columns; as instances where there are none."""

    def __init__(self, *arguments: Any, columns: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._columns = columns

    def page(self, number: int | str) -> Page[Any]:
        found = super().page(number)
        if self._columns:
            rows: Any = found.object_list
            # Only now: counting must not join what is shown.
            found.object_list = rows.values_list(*self._columns)
        return found


class Pages(PageNumberPagination):
    """`?page=2&page_size=100`; 50 by default, 200 at most."""

    page_size: Final = 50  # type: ignore[misc]
    page_size_query_param: Final = "page_size"  # type: ignore[misc]
    max_page_size: Final = 200  # type: ignore[misc]
    django_paginator_class = RowPaginator

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Return the rows of the page asked for. Raises NotFound."""
        columns = _columns(view)
        paginator = partial(type(self).django_paginator_class, columns=columns)
        self.django_paginator_class = paginator  # type: ignore[assignment]
        return super().paginate_queryset(queryset, request, view)


class BoundedPaginator(RowPaginator):
    """Counts to `COUNT_LIMIT` and no further: nobody turns to page 200 of a million rows.

    Such lists have a filter by time: narrow the window to go further back.
    """

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        # Without the order the database stops at the limit instead of sorting first.
        return int(rows.order_by()[:COUNT_LIMIT].count())


class LongPages(Pages):
    """Pages of what only grows; `count_is_exact` is false where counting stopped."""

    django_paginator_class = BoundedPaginator

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        response.data["count_is_exact"] = self._exact()
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        described = super().get_paginated_response_schema(schema)
        described["properties"]["count_is_exact"] = {
            "type": "boolean",
            "description": f"False if there are {COUNT_LIMIT} or more; counting stopped there.",
        }
        return described

    def _exact(self) -> bool:
        return bool(self.page is not None and self.page.paginator.count < COUNT_LIMIT)


def _columns(view: Any) -> tuple[str, ...]:
    """Return what a view's own list shows; its other lists may show something else."""
    if getattr(view, "action", "") != "list":
        return ()
    shown = view.get_serializer_class()
    return shown.columns() if issubclass(shown, RowOutput) else ()
