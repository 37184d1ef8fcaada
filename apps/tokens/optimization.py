"""The token app's steps of upkeep."""

from dataclasses import asdict

from apps.common.optimization import StepOptions, StepReport, register_step
from apps.tokens.services import recovery, syncing, warming
from apps.tokens.services.warming import WarmProgress


@register_step("tokens.recover", order=15, flag="cleanup_days")
def recover(options: StepOptions) -> StepReport:
    """Repair what died or got stuck, as the supervisor does every two seconds."""
    if options.dry_run:
        return StepReport(name="tokens.recover", ok=True, summary="Repairs what is found broken.")
    counts = {key: n for key, n in asdict(recovery.sweep()).items() if key != "skipped"}
    found = ", ".join(f"{n} {key.replace('_', ' ')}" for key, n in counts.items() if n)
    summary = f"Repaired: {found}." if found else "Nothing was broken."
    return StepReport(name="tokens.recover", ok=True, summary=summary, counts=counts)


@register_step("tokens.check_cache", order=81, flag="health_check")
def check_cache(options: StepOptions) -> StepReport:
    """Compare what is cached of tokens and sites with the rows; where they differ the rows win."""
    name = "tokens.check_cache"
    found = syncing.check(
        sample=None,
        repair=not options.dry_run,
        on_progress=lambda done, total: options.progress(name, done, total),
    )
    summary = f"{found.synced} of {found.cached} cached values are those of the database."
    if found.out_of_sync and not options.dry_run:
        summary += f" Dropped the other {found.out_of_sync} from the cache."
    return StepReport(name=name, ok=not found.out_of_sync, summary=summary, counts=asdict(found))


@register_step("tokens.warm", order=50, flag="warm_cache")
def warm(options: StepOptions) -> StepReport:
    """Load what is cached of the sites, and log in where a token is missing or ends soon.

    `extra["warm_wait_s"]` is how long to wait for those logins (0: they are only queued),
    `extra["warm_accounts"]` names accounts of the one site.
    """

    def tell(progress: WarmProgress) -> None:
        options.progress("tokens.warm", progress.done, progress.total)

    report = warming.warm(
        options.warm_cache or None,
        options.extra.get("warm_accounts") or None,
        max_wait_s=float(options.extra.get("warm_wait_s", 0)),
        dry_run=options.dry_run,
        on_progress=tell,
    )
    verb = "would be queued" if options.dry_run else "queued"
    summary = (
        f"{report.fresh} of {report.accounts} accounts of {len(report.sites)} sites are warm; "
        f"{report.requested} logins {verb}"
    )
    if report.acquired or report.failed:
        summary += f" ({report.acquired} done, {report.failed} failed)"
    if report.skipped:
        reasons = ", ".join(f"{n} {code}" for code, n in report.skipped.items())
        summary += f"; cannot log in now: {reasons}"
    counts = {
        "accounts": report.accounts,
        "fresh": report.fresh,
        "requested": report.requested,
        "acquired": report.acquired,
        "failed": report.failed,
        "pending": report.pending,
        "skipped": sum(report.skipped.values()),
    }
    ok = not report.failed
    return StepReport(name="tokens.warm", ok=ok, summary=f"{summary}.", counts=counts)
