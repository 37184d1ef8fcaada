"""Waiting for a ticket, for as long as the caller is patient. The request outlives the wait.

`look` asks for any number of tickets with two queries, so that one poller serves all the waiters
of a process.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.common.clock import database_now
from apps.tokens.errors import AcquisitionFailed
from apps.tokens.models import StoredToken, TokenRequest
from apps.tokens.models.requests import LIVE, Status
from apps.tokens.services import lookup
from apps.tokens.services.acquisition import Ticket
from apps.tokens.services.lookup import TokenView

POLL_S: Final = 0.15

# What a caller is told when its request ended without a token; the codes of the attempts that
# led to it are in `details`.
_MESSAGES: Final = {
    Status.FAILED: "The login failed for good.",
    Status.DEAD: "The login kept failing; the request is parked as a dead letter.",
    Status.CANCELLED: "The request was cancelled.",
    Status.EXPIRED: "Nobody could serve the request in time.",
}


def look(tickets: Iterable[Ticket]) -> Mapping[UUID, TokenView | AcquisitionFailed]:
    """Return what has come of each ticket by now, by request id; nothing for those still going."""
    wanted = {ticket.request_id: ticket for ticket in tickets}
    ended = TokenRequest.objects.filter(pk__in=wanted).exclude(status__in=LIVE).order_by()
    # Most often there is none, and that is quickly said.
    over = list(ended.values_list("pk", flat=True))
    if not over:
        return {}
    at = database_now()
    rows = TokenRequest.objects.filter(pk__in=over).select_related("site", "account")
    return {row.pk: _outcome(row, wanted[row.pk], at=at) for row in rows}


def wait(
    ticket: Ticket,
    *,
    max_wait_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> TokenView | None:
    """Block until the ticket's token is there; None when patience runs out first.

    Raises AcquisitionFailed when the request ends without a token.
    """
    end = clock() + max_wait_s
    while True:
        found = look([ticket]).get(ticket.request_id)
        if isinstance(found, AcquisitionFailed):
            raise found
        if found is not None:
            return found
        if clock() >= end:
            return None
        sleep(min(POLL_S, max(0.0, end - clock())))


def _outcome(row: TokenRequest, ticket: Ticket, *, at: datetime) -> TokenView | AcquisitionFailed:
    if row.status == Status.DONE:
        view = _token_of(row, at=at)
        if view and view.serves(at=at, newer_than=ticket.newer_than):
            return view
        return AcquisitionFailed(
            "The token was revoked or ended before it was handed out.",
            details={"request_id": str(row.pk), "code": "token_gone"},
            retry_after_s=1,
        )
    return AcquisitionFailed(
        _MESSAGES[Status(row.status)],
        details={
            "request_id": str(row.pk),
            "status": row.status,
            "code": row.error_code,
            "reason": row.error_message,
            "attempts": row.attempts,
        },
    )


def _token_of(row: TokenRequest, *, at: datetime) -> TokenView | None:
    """Return the token of the account that served the request, if it still may be handed out."""
    token = (
        StoredToken.objects.usable(at=at)
        .filter(account__site=row.site, account__username=row.served_by)
        .select_related("account__site")
        .first()
    )
    return lookup.view_of(token) if token else None
