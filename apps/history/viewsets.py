"""The history over HTTP: read-only."""

from collections.abc import Iterator
from typing import Any, cast

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from apps.common.clock import now
from apps.common.pagination import LongPages
from apps.history import services
from apps.history.export import FORMATS, lines
from apps.history.filters import HistoryFilter
from apps.history.models import TokenAcquisitionHistory
from apps.history.querysets import HistoryQuerySet
from apps.history.serializers import (
    ExportInput,
    RecordOutput,
    StatisticsInput,
    StatisticsOutput,
)

FROM = OpenApiParameter("from", OpenApiTypes.DATETIME, description="Start; instead of days.")


class AlwaysJson(BaseContentNegotiation):
    """Leaves `?format=` to the export; DRF would take it for the name of a renderer."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0] if parsers else None

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class HistoryViewSet(ReadOnlyModelViewSet[TokenAcquisitionHistory]):
    """Finished acquisitions, newest first.

    Who may see what is decided above this app: its routes are made of a subclass.
    """

    queryset = TokenAcquisitionHistory.objects.all()
    serializer_class = RecordOutput
    pagination_class = LongPages
    filterset_class = HistoryFilter
    content_negotiation_class = AlwaysJson
    # What an index can answer: anything else would sort a million rows for one page.
    ordering_fields = ["finished_at"]
    ordering = ["-finished_at", "-id"]

    @extend_schema(parameters=[StatisticsInput, FROM], responses=StatisticsOutput, filters=False)
    @action(detail=False, pagination_class=None)
    def statistics(self, request: Request) -> Response:
        """Return figures, percentiles and breakdowns for any window."""
        query = StatisticsInput(data=request.query_params)
        query.is_valid(raise_exception=True)
        answer = services.statistics(query.to_window(now()))
        return Response(StatisticsOutput(answer).data)

    @extend_schema(
        parameters=[ExportInput],
        responses={(200, form): OpenApiTypes.BINARY for form in ("text/csv", FORMATS["jsonl"])},
    )
    @action(detail=False, pagination_class=None)
    def export(self, request: Request) -> StreamingHttpResponse:
        """Stream the filtered records as CSV or JSON lines."""
        query = ExportInput(data=request.query_params)
        query.is_valid(raise_exception=True)
        form = query.validated_data["format"]
        records = cast(HistoryQuerySet, self.filter_queryset(self.get_queryset()))
        return download(lines(records, form), form)


def download(pieces: Iterator[bytes], form: str) -> StreamingHttpResponse:
    """Return the pieces as a file with today's name."""
    response = StreamingHttpResponse(pieces, content_type=FORMATS[form])
    name = f"history-{now():%Y%m%d-%H%M}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
