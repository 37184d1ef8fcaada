"""The cache's steps of upkeep."""

from dataclasses import asdict
from datetime import timedelta
from typing import Final

from apps.caching import services
from apps.common import clock
from apps.common.optimization import StepOptions, StepReport, register_step

KEEP_USAGE_DAYS: Final = 30


@register_step("caching.check", order=80, flag="health_check")
def check(_: StepOptions) -> StepReport:
    """Say how the shared layer is. It makes things fast and decides nothing, so that without it, or
    with one that is degraded, all is well enough: what that means for health, health says."""
    health = services.health()
    texts = {"off": "No shared cache is configured.", "ok": "The shared cache is well."}
    summary = texts.get(health.status, f"The shared cache is {health.status}")
    if health.reasons:
        summary = f"{summary.rstrip('.')}: {', '.join(health.reasons)}."
    return StepReport(
        name="caching.check",
        ok=True,
        summary=summary,
        counts={"pending_invalidations": health.pending_invalidations},
        details=asdict(health),
    )


@register_step("caching.prune_usage", order=40, flag="cleanup_days")
def prune_usage(options: StepOptions) -> StepReport:
    """Delete what the layers counted longer than so many days ago, 30 by default."""
    days = KEEP_USAGE_DAYS if options.cleanup_days is None else options.cleanup_days
    name, deleted = "caching.prune_usage", 0
    if options.dry_run:
        summary = f"Deletes the cache's counts older than {days} days."
    else:
        deleted = services.clean_statistics(older_than=clock.now() - timedelta(days=days))
        summary = f"Deleted {deleted} rows of the cache's counts older than {days} days."
    return StepReport(name=name, ok=True, summary=summary, counts={"deleted": deleted})
