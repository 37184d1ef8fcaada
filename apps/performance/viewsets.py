"""The performance over HTTP: looking, and a few things an operator does."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from apps.access import audit
from apps.access.contracts import AuditKind
from apps.access.services import principal_of
from apps.caching import services as cache
from apps.common import clock, measure
from apps.common.errors import NotFound
from apps.common.pagination import LongPages
from apps.history import services as history
from apps.history.contracts import Window
from apps.history.serializers import StatisticsOutput
from apps.history.viewsets import AlwaysJson
from apps.performance import selectors
from apps.performance.filters import MetricBucketFilter, MetricResetFilter, SystemSampleFilter
from apps.performance.models import MetricBucket, MetricReset, SystemSample
from apps.performance.permissions import WatchesOrOperates, require_site
from apps.performance.serializers import inputs, outputs
from apps.performance.services import exporting, keeping, resetting, resources, statistics
from apps.tokens.services import recovery, warming
from apps.tokens.services.requests import Asker
from apps.tokens.viewsets.scoping import audit_of

WARM_UP: Final = {"cache": "warm-up"}


class PerformanceView(APIView):
    """Reads need `operate` or `requests:read`, and a grant for the sites they are about."""

    permission_classes = [WatchesOrOperates]

    def query(self, request: Request, form: type[Any]) -> Any:
        """Return the checked query; raises NotPermitted or UnknownSite for foreign sites."""
        found = form(data=request.query_params)
        found.is_valid(raise_exception=True)
        if isinstance(found, inputs.SiteInput):
            require_site(principal_of(request), found.site)
        return found


class MetricsView(PerformanceView):
    @extend_schema(parameters=[inputs.MetricsInput], responses=outputs.MetricsOutput)
    def get(self, request: Request) -> Response:
        """Return everything that is measured, over a window (300 s), of one site or all."""
        query = self.query(request, inputs.MetricsInput)
        found = statistics.metrics(query.validated_data["window_s"], query.site)
        errors = selectors.recent_errors(query.site)
        return Response(outputs.MetricsOutput(asdict(found) | {"recent_errors": errors}).data)


class SeriesView(PerformanceView):
    @extend_schema(parameters=[inputs.SeriesInput], responses=outputs.PointOutput(many=True))
    def get(self, request: Request) -> Response:
        """Return one metric over time; without `from` the last hour in minutes."""
        query = self.query(request, inputs.SeriesInput)
        asked = query.validated_data
        points = statistics.series(
            asked["metric"],
            asked["from"],
            asked["to"],
            asked["step_s"],
            site=query.site,
            label=asked.get("label"),
        )
        return Response(outputs.PointOutput(points, many=True).data)


class ExportView(PerformanceView):
    content_negotiation_class = AlwaysJson

    @extend_schema(
        parameters=[inputs.ExportInput],
        responses={(200, form): OpenApiTypes.BINARY for form in ("text/csv", "application/json")},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Stream the metrics as CSV or JSON."""
        query = self.query(request, inputs.ExportInput)
        asked = query.validated_data
        form = asked["format"]
        pieces = exporting.lines(
            form,
            asked["from"],
            asked["to"],
            asked["step_s"],
            site=query.site,
            metric=asked.get("metric"),
        )
        response = StreamingHttpResponse(pieces, content_type=exporting.FORMATS[form])
        name = f"metrics-{clock.now():%Y%m%d-%H%M}.{form}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


class StatisticsView(PerformanceView):
    @extend_schema(parameters=[inputs.StatisticsInput], responses=StatisticsOutput)
    def get(self, request: Request) -> Response:
        """Return what the history says of the last days."""
        query = self.query(request, inputs.StatisticsInput)
        end = clock.now()
        days = query.validated_data["days"]
        window = Window(start=end - timedelta(days=days), end=end, site=query.site or "")
        return Response(StatisticsOutput(history.statistics(window)).data)


class ResourceUsageView(PerformanceView):
    @extend_schema(responses=outputs.ResourceUsageOutput)
    def get(self, request: Request) -> Response:
        """Return how the machine, our processes, database, Redis, queue and workers are now."""
        require_site(principal_of(request), None)  # it tells what every worker is running
        return Response(outputs.ResourceUsageOutput(resources.usage()).data)


class CacheStatisticsView(PerformanceView):
    @extend_schema(parameters=[inputs.CacheInput], responses=outputs.CacheStatisticsOutput)
    def get(self, request: Request) -> Response:
        """Return what each layer of each namespace of the cache did, in the whole cluster."""
        require_site(principal_of(request), None)
        query = self.query(request, inputs.CacheInput)
        window_s, health = query.validated_data["window_s"], cache.health()
        found = {
            "hit_rate": statistics.hit_rate(window_s),
            "status": health.status,
            "reasons": health.reasons,
            "layers": cache.statistics(window_s),
        }
        return Response(outputs.CacheStatisticsOutput(found).data)


class CacheClearView(PerformanceView):
    @extend_schema(parameters=[inputs.ClearInput], responses=outputs.ClearOutput)
    def delete(self, request: Request) -> Response:
        """Forget everything that is cached, or one namespace; rows stay what they are."""
        require_site(principal_of(request), None)
        query = self.query(request, inputs.ClearInput)
        namespace = query.validated_data.get("namespace")
        if namespace and not cache.is_known(namespace):
            raise NotFound(f"Nothing is cached under {namespace}.")
        cleared = {"cleared": namespace or "*"}
        audit.record(audit_of(request, AuditKind.SETTINGS, details=cleared))
        if namespace:
            cache.clear(namespace)
        else:
            cache.clear_all()
        return Response(outputs.ClearOutput(cleared).data)


class WarmUpView(PerformanceView):
    @extend_schema(parameters=[inputs.WarmUpInput], responses=outputs.WarmStateOutput)
    def get(self, request: Request) -> Response:
        """Return how warm the accounts are by now: of one site, some of its accounts, or all."""
        query = self.query(request, inputs.WarmUpInput)
        found = warming.state([query.site] if query.site else None, query.accounts)
        return Response(outputs.WarmStateOutput(found).data)

    @extend_schema(request=None, parameters=[inputs.WarmUpInput], responses=outputs.WarmUpOutput)
    def post(self, request: Request) -> Response:
        """Queue the logins whose tokens are missing or end soon; `GET` tells how far they are."""
        query = self.query(request, inputs.WarmUpInput)
        site, principal = query.site, principal_of(request)
        audit.record(audit_of(request, AuditKind.SETTINGS, site=site or "", details=WARM_UP))
        asker = Asker(kind=principal.kind, id=principal.id, name=principal.name, purpose="warm-up")
        report = warming.warm([site] if site else None, query.accounts, asker=asker)
        return Response(outputs.WarmUpOutput(report).data, status=status.HTTP_202_ACCEPTED)


class MetricsResetView(PerformanceView):
    @extend_schema(request=None, responses=outputs.MetricResetOutput)
    def post(self, request: Request) -> Response:
        """Show metrics from now on; what was measured before is kept for series and exports."""
        require_site(principal_of(request), None)
        audit.record(audit_of(request, AuditKind.SETTINGS, details={"metrics": "reset"}))
        row = resetting.reset(by=principal_of(request).name)
        return Response(outputs.MetricResetOutput(row).data)


class CleanupView(PerformanceView):
    @extend_schema(request=None, responses=outputs.CleanupOutput)
    def post(self, request: Request) -> Response:
        """Free what dead workers hold, end what is over, and age old metrics."""
        require_site(principal_of(request), None)
        audit.record(audit_of(request, AuditKind.SETTINGS, details={"resources": "clean-up"}))
        measure.flush()
        found = asdict(recovery.sweep()) | {"metric_rows": keeping.keep()}
        return Response(outputs.CleanupOutput(found).data)


class MetricBucketViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[MetricBucket]):
    """The rows behind the metrics; their buckets are those of apps.common.scale."""

    permission_classes = [WatchesOrOperates]
    serializer_class = outputs.MetricBucketOutput
    pagination_class = LongPages
    filterset_class = MetricBucketFilter
    ordering_fields = ["minute", "metric"]
    ordering = ["-minute", "-id"]
    queryset = MetricBucket.objects.all()

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        require_site(principal_of(request), request.query_params.get("site"))


class SystemSampleViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[SystemSample]):
    """Looks at processes and hosts, every ten seconds, for a day."""

    permission_classes = [WatchesOrOperates]
    serializer_class = outputs.SystemSampleOutput
    pagination_class = LongPages
    filterset_class = SystemSampleFilter
    ordering_fields = ["at", "cpu_percent", "memory_percent", "rss_bytes"]
    ordering = ["-at"]
    queryset = SystemSample.objects.all()

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        require_site(principal_of(request), None)


class MetricResetViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[MetricReset]):
    """Who reset the metrics, and when."""

    permission_classes = [WatchesOrOperates]
    serializer_class = outputs.MetricResetOutput
    filterset_class = MetricResetFilter
    ordering_fields = ["since"]
    ordering = ["-since"]
    queryset = MetricReset.objects.all()

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        require_site(principal_of(request), None)
