"""The answer to `acquire`, the same on both faces: a status and its JSON content."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.conf import settings

from apps.access.contracts import Principal
from apps.common import events, tracing
from apps.common.clock import monotonic
from apps.tokens.models import TokenRequest
from apps.tokens.services import acquisition, bodies, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut, Ticket
from apps.tokens.services.lookup import TokenView

# Threads of a WSGI server that may wait at a time: the other half keeps answering.
_waiters: Final = threading.BoundedSemaphore(max(1, settings.LATCHKEY_WSGI_THREADS // 2))


def answer(
    spec: AcquireSpec, *, principal: Principal, max_wait_s: float, remote_address: str
) -> tuple[int, dict[str, Any]]:
    """Obtain, wait if asked to, and return (200, token) or (202, ticket). Blocks."""
    found = obtain(spec, principal=principal, remote_address=remote_address)
    if isinstance(found, HandOut):
        return 200, bodies.hand_out(found)
    view = None
    patience_s = acquisition.patience_s(max_wait_s, ceiling_s=settings.LATCHKEY_MAX_WAIT_S)
    if patience_s > 0:
        with tracing.span("wait"), _may_wait() as allowed:
            view = waiting.wait(found, max_wait_s=patience_s if allowed else 0)
    if view is None:
        return pending(found)
    return served(found, view, principal=principal, remote_address=remote_address)


def obtain(spec: AcquireSpec, *, principal: Principal, remote_address: str) -> HandOut | Ticket:
    """Do as `acquisition.obtain`, and measure it."""
    began = monotonic()
    with tracing.span("obtain") as span:
        found = acquisition.obtain(spec, principal=principal, remote_address=remote_address)
        span.set("latchkey.found", isinstance(found, HandOut))
    if isinstance(found, HandOut):
        events.handed_out(site=found.token.site, cached=True, took_s=monotonic() - began)
    return found


def served(
    ticket: Ticket, view: TokenView, *, principal: Principal, remote_address: str
) -> tuple[int, dict[str, Any]]:
    """Return the 200 for a ticket whose token has come, its audit line written."""
    acquisition.hand_out(
        view,
        spec=ticket.spec,
        principal=principal,
        cached=False,
        remote_address=remote_address,
    )
    events.handed_out(site=view.site, cached=False)
    found = HandOut(token=view, cached=False, ttl_unattainable=ticket.ttl_unattainable)
    return 200, bodies.hand_out(found)


def pending(ticket: Ticket) -> tuple[int, dict[str, Any]]:
    """Return the 202 for a ticket that is still going."""
    row = TokenRequest.objects.select_related("site").get(pk=ticket.request_id)
    return 202, bodies.ticket(row, ttl_unattainable=ticket.ttl_unattainable)


@contextmanager
def _may_wait() -> Iterator[bool]:
    allowed = _waiters.acquire(blocking=False)
    try:
        yield allowed
    finally:
        if allowed:
            _waiters.release()
