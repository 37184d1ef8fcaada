"""The rate limit of a caller, for DRF and for the edge."""

from datetime import datetime
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.access import leases
from apps.access.contracts import Principal
from apps.access.services import principal_of
from apps.common.errors import NotAuthenticated, TooManyRequests


def consume(principal: Principal) -> None:
    """Count one request of this caller. Raises TooManyRequests with `retry_after_s`."""
    limit = principal.rate_limit_per_minute or settings.LATCHKEY_RATE_LIMIT_PER_MINUTE
    wait_s = leases.take(f"{principal.kind}:{principal.id}", limit=limit)
    if wait_s > 0:
        raise TooManyRequests(
            f"The limit is {limit} requests a minute.",
            details={"limit_per_minute": limit},
            retry_after_s=wait_s,
        )


def consume_held(principal: Principal) -> bool:
    """Count one request if that needs no database; never waits. False means: call `consume`."""
    return leases.take_held(f"{principal.kind}:{principal.id}")


def prune(now: datetime) -> int:
    """Delete the counts of minutes long over; for a sweep. Return how many rows went."""
    return leases.prune(now)


class KeyRateThrottle(BaseThrottle):
    """Counts every authenticated request, by key or by session."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Raises TooManyRequests; never just says no, so that both faces answer alike."""
        try:
            principal = principal_of(request)
        except NotAuthenticated:
            # Only views open to strangers get here; they have nobody to count for.
            return True
        consume(principal)
        return True
