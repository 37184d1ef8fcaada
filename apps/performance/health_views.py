"""Health and forecasts over HTTP, and readiness for load balancers."""

from dataclasses import asdict

from django.http import HttpRequest, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.access.contracts import Scope
from apps.access.permissions import scope
from apps.access.services import principal_of
from apps.common.clock import database_now
from apps.performance.permissions import WatchesOrOperates, require_site
from apps.performance.serializers.health import ForecastInput, ForecastOutput, HealthOutput
from apps.performance.services import forecast, health
from apps.tokens.errors import UnknownSite
from apps.tokens.models import Site


class HealthView(APIView):
    permission_classes = [scope(read=Scope.OPERATE)]

    @extend_schema(responses=HealthOutput)
    def get(self, request: Request) -> Response:
        """Say how everything is, and why, as of a second ago at most.

        The answer is 200 also while it is bad: see `status`.
        """
        require_site(principal_of(request), None)
        return Response(HealthOutput(asdict(health.RECENT.report())).data)


class ForecastView(APIView):
    permission_classes = [WatchesOrOperates]

    @extend_schema(parameters=[ForecastInput], responses=ForecastOutput)
    def get(self, request: Request) -> Response:
        """Say when a site's pool will have no usable token and no account left."""
        query = ForecastInput(data=request.query_params)
        query.is_valid(raise_exception=True)
        slug = query.validated_data["site_name"]
        require_site(principal_of(request), slug)
        site = Site.objects.filter(slug=slug).first()
        if site is None:
            raise UnknownSite
        found = forecast.of_site(site, at=database_now())
        return Response(ForecastOutput(asdict(found)).data)


def readiness(request: HttpRequest) -> JsonResponse:
    """Answer 200 if this process can hand out tokens, else 503. No key is asked for."""
    found = health.readiness()
    answer = {"status": "ready" if found.ready else "not_ready", "reasons": list(found.reasons)}
    headers = {"Cache-Control": "no-store"}
    return JsonResponse(answer, status=200 if found.ready else 503, headers=headers)
