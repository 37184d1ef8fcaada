"""Pages over a table with a million rows."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from rest_framework.response import Response

from apps.common.pagination import Pages

COUNT_LIMIT = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Counts to `COUNT_LIMIT` and no further: nobody turns to page 200 of a million rows.

    Narrow the window (`finished_before`) to go further back.
    """

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        # Without the order the database stops at the limit instead of sorting first.
        return int(rows.order_by()[:COUNT_LIMIT].count())


class HistoryPages(Pages):
    """As everywhere; `count_is_exact` is false where counting stopped."""

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
