"""Asking a broken site whether it is up, without spending a login on it."""

import structlog

from apps.common.clock import database_now
from apps.tokens.connectors.registry import connector_for
from apps.tokens.errors import LoginFailure
from apps.tokens.models import SiteBreaker
from apps.tokens.services import breaker, locks
from apps.tokens.services.context import ProbeContext
from apps.tokens.services.sites import site_config
from apps.tokens.services.threads import DatabaseThreads

log = structlog.get_logger(__name__)


async def ask_one(threads: DatabaseThreads) -> bool:
    """Make one health request that is due; say whether there was one.

    Any failure to answer is a "no"; a recipe without a health request gives no answer, and the
    breaker goes on to its probe login.
    """
    row = await threads.run(_take)
    if row is None:
        return False
    site = site_config(row.site)
    healthy: bool | None
    try:
        healthy = await connector_for(site.connector).health(ProbeContext(site=site))
    except LoginFailure as error:
        log.info("site_health_failed", site=site.slug, code=error.code)
        healthy = False
    await threads.run(_settle, row, healthy)
    return True


def _take() -> SiteBreaker | None:
    at = database_now()
    return next((row for row in breaker.health_due(at=at) if breaker.take_health(row, at=at)), None)


def _settle(row: SiteBreaker, healthy: bool | None) -> None:
    with locks.admission() as at:
        breaker.health_answered(row, healthy, at=at)
