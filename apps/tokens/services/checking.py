"""Watching one login step by step, for people who write recipes.

It is a login like any other: through admission and its limits, with the account's permit, its
secret remembered before it is sent, and its result recorded. So a check can never send a known
wrong password again, and a token it obtains is kept.
"""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from apps.common import detached
from apps.common.clock import database_now
from apps.tokens.contracts import StepTrace
from apps.tokens.models import Account, LoginAttempt, Site, StoredToken, TokenRequest
from apps.tokens.models.requests import Reason, Status
from apps.tokens.services import admission, execution, outcomes, requests
from apps.tokens.services.owner import Owner
from apps.tokens.services.requests import Demand
from apps.tokens.services.threads import DatabaseThreads

CLUSTER = "check"
HELD_BACK = timedelta(minutes=10)


def check(
    site: Site, account: Account | None, *, on_trace: Callable[[StepTrace], None]
) -> LoginAttempt | None:
    """Make one login now, reporting each finished step; return its closed attempt.

    None means that nothing could start: a limit is reached, the account is busy or may not be
    used, or a request for it is being served already. Raises nothing of the site's.
    """
    request_id = _held_request(site, account)
    if request_id is None:
        return None
    owner = Owner.take(cluster=CLUSTER)
    threads = DatabaseThreads(name="check", threads=1)
    try:
        claim = admission.claim_this(request_id, owner_id=owner.id)
        if claim is not None:
            detached.run(execution.run(claim, owner=owner, threads=threads, on_trace=on_trace))
    finally:
        threads.close()
        owner.end()
        _end(request_id)
    return LoginAttempt.objects.filter(request=request_id).select_related("account").first()


def _held_request(site: Site, account: Account | None) -> UUID | None:
    """Make a request that the workers leave alone; None if there is a live one already."""
    tokens = StoredToken.objects.filter(account__site=site).values_list("version", flat=True)
    with transaction.atomic():
        live = TokenRequest.objects.live().filter(site=site)
        if live.filter(requested_key=str(account.pk) if account else "").exists():
            return None
        demand = Demand(
            site=site, account=account, reason=Reason.MANUAL, newer_than=max(tokens, default=0)
        )
        pk = requests.ask(demand, asker=None)
        held = database_now() + HELD_BACK
        TokenRequest.objects.filter(pk=pk).update(not_before=held, max_attempts=1)
    return pk


def _end(request_id: UUID) -> None:
    """End what is left of the request: a check does not go on by itself."""
    row = TokenRequest.objects.live().filter(pk=request_id).first()
    if row is not None:
        outcomes.end(
            row.pk,
            Status.CANCELLED,
            at=database_now(),
            error_code=row.error_code or "check_ended",
            error_message=row.error_message,
        )
