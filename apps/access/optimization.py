"""The audit's steps of upkeep: into rows, and out of them when old enough."""

import time
from datetime import timedelta
from typing import Final

from django.conf import settings

from apps.access import audit
from apps.access.models import AuditEntry
from apps.common import clock
from apps.common.optimization import StepOptions, StepReport, register_step

BATCH: Final = 1_000


@register_step("access.import_audit", order=10, flag="cleanup_days")
def import_audit(options: StepOptions) -> StepReport:
    """Bring the hand-out journals into rows; lines that are no audit record fail the step."""
    name = "access.import_audit"
    if options.dry_run:
        return StepReport(name=name, ok=True, summary="Imports the audit journals of this host.")
    report = audit.import_journals()
    summary = f"Imported {report.imported} audit lines from {report.files} journals."
    if report.skipped:
        summary = "Another import is running."
    if report.rejected:
        summary += f" {report.rejected} lines are no audit record and were put aside."
    counts = {"imported": report.imported, "rejected": report.rejected, "torn": report.torn}
    return StepReport(name=name, ok=not report.rejected, summary=summary, counts=counts)


@register_step("access.purge_audit", order=30, flag="cleanup_days")
def purge_audit(options: StepOptions) -> StepReport:
    """Delete audit entries past LATCHKEY_AUDIT_KEEP_DAYS. `--cleanup-days` is not for the audit,
    which is to be kept longer than the history: where it is not, the report says so."""
    name, days = "access.purge_audit", int(settings.LATCHKEY_AUDIT_KEEP_DAYS)
    before = clock.now() - timedelta(days=days)
    old = AuditEntry.objects.filter(at__lt=before).count()
    deleted = 0
    while not options.dry_run and deleted < old:
        began = clock.monotonic()
        step = audit.purge(before=before, limit=BATCH)
        deleted += step
        options.progress(name, deleted, old)
        if not step:
            break
        # As long as the transaction: on SQLite writers are waiting for it.
        time.sleep(clock.monotonic() - began)
    verb, number = ("Would delete", old) if options.dry_run else ("Deleted", deleted)
    summary = f"{verb} {number} audit entries older than {days} days."
    if days <= (options.cleanup_days or 0):
        summary += " The history is kept as long: raise LATCHKEY_AUDIT_KEEP_DAYS."
    return StepReport(name=name, ok=True, summary=summary, counts={"deleted": deleted})
