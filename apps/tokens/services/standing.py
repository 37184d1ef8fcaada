"""The queues: who stands in them, whose wait is over, and who is first.

The head of each queue of each site is one look-up in an index of what may run, so the cost does
not grow with the number of requests that wait, whatever they wait for.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

from django.db.models import F, OuterRef, QuerySet, Subquery

from apps.tokens.models import Site, TokenRequest
from apps.tokens.models.requests import BACKGROUND, Status
from apps.tokens.services.occupancy import Occupancy

# So many requests whose wait is over come back into their queues in one transaction.
DUE_AT_ONCE: Final = 500


def next_request(state: Occupancy, *, queues: Iterable[str], at: datetime) -> TokenRequest | None:
    """Return the oldest request at a site where something can be started.

    Queue by queue, because each has its own order in the index: whatever waits in a queue that
    has to wait is not even read.
    """
    open_ones = (q for q in queues if not (q in BACKGROUND and state.background_full))
    heads = (_head(queue, state, at=at) for queue in open_ones)
    return min(filter(None, heads), key=lambda row: row.order_at, default=None)


def _head(queue: str, state: Occupancy, *, at: datetime) -> TokenRequest | None:
    due = _standing().filter(queue=queue, not_before__lte=at)
    waiting = due.exclude(account__in=state.busy_accounts).order_by("order_at")
    sites = Site.objects.filter(enabled=True).exclude(pk__in=state.closed_sites(queue))
    oldest = waiting.filter(site=OuterRef("pk")).values("order_at")[:1]
    # Sorted with NULLs last and not filtered: a filter would look each head up twice.
    ordered = sites.annotate(head_at=Subquery(oldest)).order_by(F("head_at").asc(nulls_last=True))
    found = ordered.first()
    if found is None or vars(found)["head_at"] is None:
        return None
    # No join here: with one, SQLite reads and sorts the site's whole queue.
    head = waiting.filter(site=found).first()
    if head:
        head.site = found
    return head


def _standing() -> QuerySet[TokenRequest, TokenRequest]:
    """Return what stands in the queues; it names what their index is made of."""
    return TokenRequest.objects.filter(status=Status.QUEUED, set_aside=False)


def waiting_queues(queues: Collection[str]) -> list[str]:
    """Return those in which anything stands at all: from one to the next along the index."""
    found: list[str] = []
    names = _standing().order_by("queue").values_list("queue", flat=True)
    name = names.first()
    while name is not None:
        found += [name] if name in queues else []
        name = names.filter(queue__gt=name).first()
    return found


def let_due_ones_in(at: datetime) -> None:
    """Put requests whose wait is over back into their queues."""
    due = TokenRequest.objects.filter(status=Status.QUEUED, set_aside=True, not_before__lte=at)
    # One that is being changed this moment is for the next admission: nobody waits for anybody.
    free = due.order_by("not_before").select_for_update(skip_locked=True)
    rows = list(free.values_list("pk", flat=True)[:DUE_AT_ONCE])
    if rows:
        TokenRequest.objects.filter(pk__in=rows).update(set_aside=False)
