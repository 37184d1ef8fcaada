"""What this app plugs into the recorder, the supervisor, the upkeep command and the cache."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from apps.access import audit
from apps.access.contracts import AuditKind, AuditRecord
from apps.access.selectors import principal_of_user
from apps.access.services import principal_of
from apps.caching.signals import changing
from apps.common import measure, periodic
from apps.common.request_context import current_request_id
from apps.performance.services import alerting_jobs, keeping, sampling, storing, tuning_auto

KEEP_EVERY_S = 60.0


def connect() -> None:
    """Store what is measured; in the background, unless the settings leave that to the caller."""
    measure.set_sink(
        storing.store,
        background=getattr(settings, "LATCHKEY_METRICS_BACKGROUND", True),
        on_tick=look,
    )
    periodic.register("performance.sample", every_s=1.0)(sample)
    periodic.register("performance.keep", every_s=KEEP_EVERY_S)(keep)
    periodic.register("performance.adapt_limits", every_s=tuning_auto.EVERY_S)(adapt)
    alerting_jobs.connect()
    changing.connect(audit_cache, dispatch_uid="performance.audit_cache")


def look() -> None:
    """Look at this process, whatever it is for."""
    sampling.sample_if_due()


def sample() -> None:
    """Look at the supervisor and at what all processes share."""
    sampling.sample_if_due(role=sampling.SUPERVISOR)


def keep() -> None:
    """Age and delete old rows."""
    keeping.keep()


def adapt() -> None:
    """Adapt the limits that an operator has left to the rule."""
    tuning_auto.adapt_all()


def audit_cache(request: Any, details: dict[str, Any], **_: Any) -> None:
    """Write who changes what is cached and how, by API or on a page."""
    by_page = isinstance(request, HttpRequest)
    audit.record(
        AuditRecord.by(
            principal_of_user(request.user) if by_page else principal_of(request),
            kind=AuditKind.SETTINGS,
            details=details,
            request_id=current_request_id(),
            remote_address=request.META.get("REMOTE_ADDR", ""),
        )
    )
