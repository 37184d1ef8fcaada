"""The token app's steps of upkeep."""

from dataclasses import asdict

from apps.common.clock import database_now
from apps.common.optimization import StepOptions, StepReport, register_step
from apps.tokens.models import Account, StoredToken
from apps.tokens.services import lookup, recovery, warming
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
    """Compare the cached tokens with their rows; where they differ the row wins."""
    name, at = "tokens.check_cache", database_now()
    rows = StoredToken.objects.usable(at=at).select_related("account__site")
    rows = rows.filter(account__enabled=True, account__site__enabled=True)
    total, synced, dropped = rows.count(), 0, 0
    for done, row in enumerate(rows.iterator(), start=1):
        account: Account = row.account
        cached = lookup.find(account.site.slug, account.username)
        if cached is not None and cached.fingerprint == row.fingerprint:
            synced += 1
        elif _changed_since(row):
            synced += 1  # replaced while we looked: the cache was newer than what we read
        elif not options.dry_run:
            lookup.forget(account)
            dropped += 1
        options.progress(name, done, total)
    differ = total - synced
    summary = f"{synced} of {total} cached tokens are those of the database."
    if dropped:
        summary += f" Dropped the other {dropped} from the cache."
    counts = {"synced": synced, "out_of_sync": differ}
    return StepReport(name=name, ok=not differ, summary=summary, counts=counts)


@register_step("tokens.warm", order=50, flag="warm_cache")
def warm(options: StepOptions) -> StepReport:
    """Load what is cached of the sites, and log in where a token is missing or ends soon.

    `extra["warm_wait_s"]` is how long to wait for those logins (0: they are only queued).
    """

    def tell(progress: WarmProgress) -> None:
        options.progress("tokens.warm", progress.done, progress.total)

    report = warming.warm(
        options.warm_cache or None,
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


def _changed_since(row: StoredToken) -> bool:
    now = StoredToken.objects.filter(pk=row.pk).values_list("fingerprint", flat=True).first()
    return now != row.fingerprint
