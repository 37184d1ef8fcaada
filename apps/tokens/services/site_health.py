"""Asking a broken site whether it is up, without spending a login on it."""

import asyncio

import structlog

from apps.common import tracing
from apps.common.clock import database_now
from apps.tokens.connectors.registry import connector_for
from apps.tokens.errors import Blame, LoginFailure
from apps.tokens.models import SiteBreaker
from apps.tokens.services import breaker, locks
from apps.tokens.services.context import ProbeContext
from apps.tokens.services.sites import site_config
from apps.tokens.services.threads import DatabaseThreads

log = structlog.get_logger(__name__)


async def ask_one(threads: DatabaseThreads) -> bool:
    """Make one health request that is due; say whether there was one.

    Any failure of the site to answer is a "no". A recipe without a health request, or one whose
    code is at fault, gives no answer, and the breaker goes on to its probe login.
    """
    row = await threads.run(_take)
    if row is None:
        return False
    site = site_config(row.site)
    healthy: bool | None
    try:
        with tracing.span("site_health", {"latchkey.site": site.slug}):
            async with asyncio.timeout(site.request_timeout_s):
                healthy = await connector_for(site.connector).health(ProbeContext(site=site))
    except (LoginFailure, TimeoutError) as error:
        code = error.code if isinstance(error, LoginFailure) else "timeout"
        log.info("site_health_failed", site=site.slug, code=code)
        healthy = None if getattr(error, "blame", None) == Blame.OURSELVES else False
    except Exception:
        log.exception("site_health_crashed", site=site.slug)
        healthy = None
    await threads.run(_settle, row, healthy)
    return True


def _take() -> SiteBreaker | None:
    at = database_now()
    return next((row for row in breaker.health_due(at=at) if breaker.take_health(row, at=at)), None)


def _settle(row: SiteBreaker, healthy: bool | None) -> None:
    with locks.admission() as at:
        breaker.health_answered(row, healthy, at=at)
