"""Pages of lists: by number, with a size the caller may choose."""

from typing import Final

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """`?page=2&page_size=100`; 50 by default, 200 at most."""

    page_size: Final = 50  # type: ignore[misc]
    page_size_query_param: Final = "page_size"  # type: ignore[misc]
    max_page_size: Final = 200  # type: ignore[misc]
