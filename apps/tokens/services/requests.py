"""Demand: making, joining, ending and requeueing requests."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Greatest, Least

from apps.common import tracing
from apps.common.clock import database_now
from apps.common.errors import BusinessRuleViolated
from apps.tokens.models import Account, AdmissionLimits, Interest, Site, TokenRequest
from apps.tokens.models.requests import BACKGROUND, Queue, Stage, Status
from apps.tokens.services import hints, outcomes

# How much later than an interactive request one of these queues up, in seconds. It ages: after
# that time of waiting it goes before whatever comes in then.
HANDICAP_S: Final = {
    Queue.INTERACTIVE: 0,
    Queue.BROWSER: 0,
    Queue.DEFAULT: 0,
    Queue.REFRESH: 60,
    Queue.MAINTENANCE: 120,
    Queue.BATCH: 300,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, for the record of interest; slugs and names, no rows."""

    kind: str
    id: str
    name: str
    purpose: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is wanted. `account` None means any; `newer_than` is a version already known."""

    site: Site
    account: Account | None
    reason: str
    queue: str = Queue.INTERACTIVE
    newer_than: int = 0
    min_ttl_s: int = 0


def ask(demand: Demand, *, asker: Asker | None) -> UUID:
    """Join the live request for this key, or make one; return its id.

    A joiner raises the priority and extends the life of the request in the same UPDATE. The
    partial unique constraint decides between two who make one at the same moment. The login goes
    on in the trace of whoever made the request; a joiner's own trace gets a link to that one.
    """
    facts = {"latchkey.site": demand.site.slug, "latchkey.queue": str(demand.queue)}
    limits = AdmissionLimits.current()
    with tracing.span("ask", facts, kind=tracing.Kind.PRODUCER) as span:
        for _ in range(5):
            with transaction.atomic():
                at = database_now()
                pk = _join(demand, at=at, limits=limits) or _make(demand, at=at, limits=limits)
                if pk is None:
                    continue
                if asker:
                    _note_interest(pk, asker, at=at)
                transaction.on_commit(partial(hints.send, demand.queue))
                span.set("latchkey.request", str(pk))
                return pk
        raise BusinessRuleViolated("The request kept ending while it was joined.", retry_after_s=1)


def detach(request: TokenRequest, *, kind: str, principal_id: str) -> bool:
    """End one asker's interest; a queued request that nobody is interested in is cancelled.

    Returns whether the request was cancelled. A login that is running is not interrupted: the
    site has the password already, and its token may serve the next one.
    """
    with transaction.atomic():
        at = database_now()
        mine = request.interests.filter(
            principal_kind=kind, principal_id=principal_id, detached_at=None
        )
        # Who never asked ends nothing: a refresh that nobody asked for is not theirs to cancel.
        if not mine.update(detached_at=at) or request.interests.filter(detached_at=None).exists():
            return False
        return outcomes.end(request.pk, Status.CANCELLED, at=at, only_if=Status.QUEUED)


def requeue(request: TokenRequest, *, asker: Asker | None) -> UUID:
    """Make or join a new request in place of one that ended without a token."""
    if request.status in (Status.QUEUED, Status.RUNNING, Status.PAUSED, Status.DONE):
        raise BusinessRuleViolated("Only a request that ended without a token can be requeued.")
    demand = Demand(
        site=request.site,
        account=request.account,
        reason=request.reason,
        queue=request.queue,
        newer_than=request.newer_than,
        min_ttl_s=request.min_ttl_s,
    )
    return ask(demand, asker=asker)


def is_unwanted(pk: UUID) -> bool:
    """Say whether somebody asked for this request and nobody is interested any more."""
    interests = Interest.objects.filter(request=OuterRef("pk"))
    return (
        TokenRequest.objects.filter(pk=pk)
        .filter(Exists(interests), ~Exists(interests.filter(detached_at=None)))
        .exists()
    )


def reconsider(accounts: Iterable[Account]) -> None:
    """Let admission look again at what it set aside because of these accounts of one site.

    Call it when an account may have become usable before its time was over; who is still not
    served is set aside again.
    """
    rows = list(accounts)
    keys = ["", *(str(row.pk) for row in rows)]
    TokenRequest.objects.live().filter(
        site__in={row.site_id for row in rows}, requested_key__in=keys, status=Status.QUEUED
    ).update(not_before=database_now())


def reconsider_site(site: Site) -> None:
    """Let admission look again at all that waits at a site."""
    waiting = TokenRequest.objects.filter(site=site, status=Status.QUEUED)
    waiting.update(not_before=database_now())


def life_s(queue: str, limits: AdmissionLimits) -> int:
    """Return how many seconds a request of this queue lives after the last asking."""
    return limits.background_timeout_s if queue in BACKGROUND else limits.acquisition_timeout_s


def _join(demand: Demand, *, at: datetime, limits: AdmissionLimits) -> UUID | None:
    live = TokenRequest.objects.live().filter(site=demand.site, requested_key=_key(demand))
    joined = live.update(
        order_at=Least(F("order_at"), _order(demand, at)),
        expires_at=Greatest(F("expires_at"), _end(demand, at, limits)),
        newer_than=Greatest(F("newer_than"), demand.newer_than),
        min_ttl_s=Greatest(F("min_ttl_s"), demand.min_ttl_s),
        # In the slower queue it would keep that queue's share of permits, and its workers.
        queue=Case(
            When(queue__in=_slower(demand.queue), then=Value(demand.queue)), default=F("queue")
        ),
        **_own_trace(),
    )
    found = live.values_list("pk", "traceparent").first() if joined else None
    if found is None:
        return None
    tracing.follow(found[1])
    return found[0]


def _own_trace() -> dict[str, Case]:
    """Let a request that nobody watches yet go on in the trace of who joins it."""
    mine = tracing.current_traceparent()
    if not mine.endswith("-01"):
        return {}
    unwatched = Q(traceparent="") | Q(traceparent__endswith="-00")
    return {"traceparent": Case(When(unwatched, then=Value(mine)), default=F("traceparent"))}


def _make(demand: Demand, *, at: datetime, limits: AdmissionLimits) -> UUID | None:
    try:
        with transaction.atomic():
            row = TokenRequest.objects.create(
                site=demand.site,
                account=demand.account,
                requested_key=_key(demand),
                stage=Stage.QUEUED,
                reason=demand.reason,
                queue=demand.queue,
                order_at=_order(demand, at),
                not_before=at,
                expires_at=_end(demand, at, limits),
                newer_than=demand.newer_than,
                min_ttl_s=demand.min_ttl_s,
                max_attempts=limits.max_attempts,
                created_at=at,
                traceparent=tracing.current_traceparent(),
            )
    except IntegrityError:
        return None  # somebody made it at the same moment: join theirs in the next round
    return row.pk


def _slower(queue: str) -> list[str]:
    return [other for other, after_s in HANDICAP_S.items() if after_s > HANDICAP_S[Queue(queue)]]


def _key(demand: Demand) -> str:
    return str(demand.account.pk) if demand.account else ""


def _order(demand: Demand, at: datetime) -> datetime:
    return at + timedelta(seconds=HANDICAP_S[Queue(demand.queue)])


def _end(demand: Demand, at: datetime, limits: AdmissionLimits) -> datetime:
    return at + timedelta(seconds=life_s(demand.queue, limits))


def _note_interest(pk: UUID, asker: Asker, *, at: datetime) -> None:
    Interest.objects.update_or_create(
        request_id=pk,
        principal_kind=asker.kind,
        principal_id=asker.id,
        defaults={
            "principal_name": asker.name[:200],
            "purpose": asker.purpose[:200],
            "asked_at": at,
            "detached_at": None,
        },
    )
