"""`/metrics`: for a Prometheus that shows a token of its own, or an API key."""

import hmac

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from apps.access import services as access
from apps.common.errors import BrokerError
from apps.common.problems import problem_response
from apps.performance.permissions import require_reader, require_site
from apps.performance.services import exposition


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape; 401 without a credential, 503 while the database is down."""
    try:
        _authorize(request)
        return HttpResponse(exposition.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    except (BrokerError, DatabaseError) as error:
        return problem_response(request, error)


def _authorize(request: HttpRequest) -> None:
    """Raise NotAuthenticated or NotPermitted unless the caller may read all metrics."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    given = value.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    wanted = settings.LATCHKEY_METRICS_TOKEN
    if wanted and hmac.compare_digest(given.encode(), wanted.encode()):
        return
    principal = access.authenticate(given)
    require_reader(principal)
    require_site(principal, None)
