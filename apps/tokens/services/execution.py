"""Running one claimed login: refresh if that can do, else log in; then write the result.

No transaction is open while the site is talked to. Every way out ends in `completion`, so a
permit is held exactly as long as the login.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from apps.common import redaction, tracing
from apps.common.database import with_retry
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import LoginGrant, StepTrace
from apps.tokens.errors import (
    LoginFailure,
    LoginTimedOut,
    RateLimited,
    RefreshRejected,
    SiteUnavailable,
    WorkerFailed,
)
from apps.tokens.services import completion, refresh
from apps.tokens.services.admission import Claim
from apps.tokens.services.context import WorkerContext
from apps.tokens.services.owner import Owner
from apps.tokens.services.threads import DatabaseThreads

log = structlog.get_logger(__name__)

Login = asyncio.Task[tuple[LoginGrant, bool]]

# A login is dear: its result is kept in memory through this long an outage of the database.
WRITE_PATIENCE_S: Final = 60.0
WRITE_ATTEMPTS: Final = 60
# A login that is cancelled gets this long to close what it holds.
CANCEL_GRACE_S: Final = 2.0


async def run(
    claim: Claim,
    *,
    owner: Owner,
    threads: DatabaseThreads,
    term: int | None = None,
    on_trace: Callable[[StepTrace], None] | None = None,
) -> None:
    """Make the login of a claim and record what came of it. Raises nothing of the site's.

    `term` is the owner's, read before the claim: a lease that ended since then ends the login.
    By default it is the present one.
    """
    term = owner.term if term is None else term
    context = WorkerContext(claim=claim, owner=owner, term=term, threads=threads, on_trace=on_trace)
    with redaction.guard(claim.credentials.secrets.values()), _span_of(claim) as span:
        try:
            grant, refreshed = await _with_deadline(context)
            await _complete(
                context, lambda: completion.succeed(claim.attempt_id, grant, refreshed=refreshed)
            )
        except LoginFailure as error:
            failure = error
            span.fail(failure.code)
            await _complete(context, lambda: completion.fail(claim.attempt_id, failure))


def _span_of(claim: Claim) -> tracing.Span:
    facts = {
        "latchkey.site": claim.site.slug,
        "latchkey.request": str(claim.request_id),
        "latchkey.attempt": str(claim.attempt_id),
    }
    return tracing.span("login", facts, parent=claim.traceparent, kind=tracing.Kind.CONSUMER)


async def _complete(context: WorkerContext, write: Callable[[], bool]) -> None:
    await context.settle()
    with tracing.span("completion"):
        await context.threads.run(_patiently, write)


def _patiently(write: Callable[[], bool]) -> bool:
    """Write a result through an outage of the database; a repeated write finds it done."""
    return with_retry(write, attempts=WRITE_ATTEMPTS, timeout_s=WRITE_PATIENCE_S)


async def _with_deadline(context: WorkerContext) -> tuple[LoginGrant, bool]:
    """Log in within the site's deadline. Raises nothing but LoginFailure."""
    limit_s = context.site.login_timeout_s
    login = asyncio.create_task(_obtain(context))
    try:
        await asyncio.wait({login}, timeout=limit_s)
        if login.done():
            return _result(login, context)
        await _end(login, context)
    finally:
        login.cancel()
    raise LoginTimedOut(f"The login took longer than {limit_s:g} s.")


def _result(login: Login, context: WorkerContext) -> tuple[LoginGrant, bool]:
    """Return what a login came to; whatever our own code raised becomes WorkerFailed."""
    try:
        return login.result()
    except LoginFailure:
        raise
    except TimeoutError as error:
        raise LoginTimedOut("The login ran into a time-out of its own.") from error
    except Exception as error:
        log.exception("login_crashed", site=context.site.slug)
        raise WorkerFailed(f"The login ended with {type(error).__name__}.") from error


async def _end(login: Login, context: WorkerContext) -> None:
    """Cancel a login whose time is over. Code that will not be cancelled sends nothing more."""
    context.is_over = True
    login.cancel()
    await asyncio.wait({login}, timeout=CANCEL_GRACE_S)
    if not login.done():
        log.error("login_not_cancelled", site=context.site.slug)
    elif not login.cancelled():
        login.exception()  # what it came to is too late to matter


async def _obtain(context: WorkerContext) -> tuple[LoginGrant, bool]:
    connector = connector_for(context.site.connector)
    if connector.can_refresh(context.site):
        grant = await _refresh(context)
        if grant is not None:
            return grant, True
    context.progress("logging_in")
    return await connector.login(context), False


async def _refresh(context: WorkerContext) -> LoginGrant | None:
    """Trade the refresh token, if there is one that is not in doubt; None asks for a login.

    The rotated token is stored before anybody sees the access token.
    """
    claim, threads = context.claim, context.threads
    connector = connector_for(context.site.connector)
    lineage = await threads.run(refresh.current, claim.account_id)
    while lineage is not None:
        if not await threads.run(
            refresh.journal, claim.account_id, lineage, attempt_id=claim.attempt_id
        ):
            return None
        with redaction.guard([lineage.secret]), tracing.span("refresh"):
            try:
                grant = await connector.refresh(context, lineage.secret)
            except RefreshRejected:
                lineage = await threads.run(refresh.reject, claim.account_id, lineage)
                continue
            except (SiteUnavailable, RateLimited):
                # The site answered, and not with a new token: nothing is in doubt.
                await threads.run(refresh.release, claim.account_id, lineage)
                raise
        # The only valid one is in our hands: neither an outage nor the deadline may drop it.
        accept = partial(refresh.accept, claim.account_id, lineage, grant)
        await asyncio.shield(threads.run(_patiently, accept))
        return grant
    return None
