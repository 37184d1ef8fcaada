"""The performance app's steps of upkeep."""

from dataclasses import asdict
from typing import Final

from apps.common.optimization import StepOptions, StepReport, register_step
from apps.performance.services import health, keeping, resetting, tuning

BY: Final = "optimize_performance"
BUDGET_S: Final = 60.0
UNHEALTHY: Final = "unhealthy"


@register_step("performance.keep", order=35, flag="cleanup_days")
def keep(options: StepOptions) -> StepReport:
    """Age measurements from minutes to hours to days, and delete the oldest."""
    done = 0 if options.dry_run else keeping.keep(budget_s=BUDGET_S)
    summary = "Ages measurements." if options.dry_run else f"Aged or deleted {done} measurements."
    return StepReport(name="performance.keep", ok=True, summary=summary, counts={"rows": done})


@register_step("performance.reset", order=70, flag="reset_metrics")
def reset(options: StepOptions) -> StepReport:
    """Show metrics from now on; nothing that was measured is deleted."""
    summary = "Would show metrics from now on."
    if not options.dry_run:
        row = resetting.reset(by=str(options.extra.get("by", BY)))
        summary = f"Metrics are shown from {row.since:%Y-%m-%d %H:%M:%S} UTC on."
    return StepReport(name="performance.reset", ok=True, summary=summary)


@register_step("performance.concurrency", order=60, flag="optimize_concurrency")
def concurrency(options: StepOptions) -> StepReport:
    """Say what each limit should be and why; with `apply`, set them."""
    name = "performance.concurrency"
    found = tuning.analyze()
    wanted = [one for one in found if one.changes]
    applied = 0
    if options.apply and not options.dry_run:
        applied = len(tuning.apply(found, by=str(options.extra.get("by", BY))))
    verb = f"{applied} applied" if options.apply and not options.dry_run else "none applied"
    return StepReport(
        name=name,
        ok=True,
        summary=f"{len(wanted)} of {len(found)} limits should change, {verb}.",
        counts={"limits": len(found), "recommended": len(wanted), "applied": applied},
        details={"recommendations": [asdict(one) for one in found]},
        lines=tuple(f"{one.site or 'all sites'}: {one.reason}" for one in found),
    )


@register_step("performance.health", order=90, flag="health_check")
def check_health(_: StepOptions) -> StepReport:
    """Say how the installation is; `unhealthy` fails the step, milder states are told."""
    report = health.check()
    reasons = "; ".join(reason.message for reason in report.reasons)
    return StepReport(
        name="performance.health",
        ok=report.status != UNHEALTHY,
        summary=f"{report.status}: {reasons}" if reasons else f"{report.status}.",
        counts={"reasons": len(report.reasons)},
        details={
            "status": report.status,
            "reasons": [{"code": one.code, "message": one.message} for one in report.reasons],
        },
    )
