"""The history's steps of upkeep."""

from apps.common.optimization import StepOptions, StepReport, register_step
from apps.history import services
from apps.history.contracts import CleanupProgress

KEEP_DAYS = 30


@register_step("history.cleanup", order=20, flag="cleanup_days")
def cleanup(options: StepOptions) -> StepReport:
    """Delete (archive first, if asked) what is older than so many days, 30 by default."""
    name = "history.cleanup"

    def tell(progress: CleanupProgress) -> None:
        options.progress(name, progress.done, progress.total)

    days = KEEP_DAYS if options.cleanup_days is None else options.cleanup_days
    report = services.cleanup(
        days, dry_run=options.dry_run, archive_to=options.archive_to, on_progress=tell
    )
    summary = f"Deleted {report.deleted} records older than {days} days."
    if report.dry_run:
        summary = f"Would delete {report.matched} records older than {days} days."
    if report.archive:
        summary += f" Archived them to {report.archive}."
    counts = {"matched": report.matched, "deleted": report.deleted, "archived": report.archived}
    return StepReport(name=name, ok=True, summary=summary, counts=counts)


@register_step("history.roll_up", order=25, flag="cleanup_days")
def roll_up(options: StepOptions) -> StepReport:
    """Add closed days up, so that statistics stay fast."""
    done = 0 if options.dry_run else services.roll_up(budget_s=60.0)
    summary = "Rolls up closed days." if options.dry_run else f"Rolled up {done} days and months."
    return StepReport(name="history.roll_up", ok=True, summary=summary, counts={"periods": done})
