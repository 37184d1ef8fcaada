"""What each limit should be and why; applying it, and taking it back."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from operator import itemgetter
from typing import Any, Final

import structlog
from django.db import transaction

from apps.common.clock import database_now
from apps.common.errors import BusinessRuleViolated
from apps.performance.models.tuning import LimitChange, TuningBounds
from apps.performance.services import evidence
from apps.performance.services.evidence import Evidence, LevelEvidence, SiteEvidence
from apps.performance.services.tuning_control import RISE, WINDOW
from apps.performance.services.tuning_queueing import servers_for
from apps.tokens.models import Account, AdmissionLimits, Site
from apps.tokens.services import directory

log = structlog.get_logger(__name__)

# More refusals than that at a level, and the level is too high.
REFUSED_SHARE: Final = 0.02
WINDOW_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What one limit should be. `site` '' is the limit over all sites.

    `present` None means that the site has no number of its own; `effective` is what holds now.
    """

    site: str
    present: int | None
    effective: int
    recommended: int
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Say whether applying it would change anything."""
        return self.recommended != self.effective


def analyze(*, window_s: float = WINDOW_S) -> tuple[Recommendation, ...]:
    """Say what each limit should be, from what was recorded in the last `window_s` seconds.

    One for each enabled site, then the one over all sites; unchanged ones say why too.
    """
    until = database_now()
    found = evidence.gather(since=until - timedelta(seconds=window_s), until=until)
    limits = AdmissionLimits.current()
    accounts = Counter(Account.objects.filter(enabled=True).values_list("site_id", flat=True))
    bounds = {row.site_id: row for row in TuningBounds.objects.all()}
    sites = [
        _for_site(
            row,
            found.sites.get(row.slug, SiteEvidence(site=row.slug)),
            effective=row.max_concurrent or limits.max_concurrent_per_site,
            accounts=accounts[row.pk],
            bounds=bounds.get(row.pk),
        )
        for row in Site.objects.filter(enabled=True)
    ]
    return (*sites, _over_all(found, sites, limits, bounds.get(None)))


def apply(recommendations: Iterable[Recommendation], *, by: str) -> tuple[LimitChange, ...]:
    """Set the recommended limits and record each change; return those that were made.

    A limit that was changed since it was analysed is left as somebody has set it.
    """
    made = []
    for one in recommendations:
        if not one.changes:
            continue
        change = change_limit(
            site=one.site,
            before=one.present,
            after=one.recommended,
            reason=one.reason,
            numbers=one.numbers,
            by=by,
        )
        if change is not None:
            made.append(change)
    return tuple(made)


def revert(change: LimitChange, *, by: str) -> LimitChange:
    """Put back what was before a change, and record that too.

    Raises BusinessRuleViolated if it was taken back already, or the limit was changed since.
    """
    with transaction.atomic():
        if LimitChange.objects.filter(reverts=change).exists():
            raise BusinessRuleViolated("This change was taken back already.")
        made = change_limit(
            site=change.site,
            before=change.after,
            after=change.before,
            reason=f"Takes back the change of {change.at:%Y-%m-%d %H:%M:%S}: {change.reason}",
            by=by,
            reverts=change,
        )
        if made is None:
            raise BusinessRuleViolated("The limit was changed since; set it by hand.")
        return made


@transaction.atomic
def change_limit(
    *,
    site: str,
    before: int | None,
    after: int | None,
    reason: str,
    by: str,
    numbers: Mapping[str, Any] | None = None,
    automatic: bool = False,
    reverts: LimitChange | None = None,
) -> LimitChange | None:
    """Set one limit from `before` to `after` and record it; None if it is not `before` any more."""
    if site:
        changed = Site.objects.filter(slug=site, max_concurrent=before).update(max_concurrent=after)
    else:
        if before is None or after is None:
            return None  # there is always a number over all sites
        AdmissionLimits.objects.get_or_create(pk=1)
        changed = AdmissionLimits.objects.filter(pk=1, max_concurrent=before).update(
            max_concurrent=after
        )
    if not changed:
        return None
    if site:
        directory.forget_site(site)
    log.info("limit_changed", site=site, before=before, after=after, by=by, reason=reason)
    return LimitChange.objects.create(
        at=database_now(),
        site=site,
        before=before,
        after=after,
        reason=reason[:500],
        numbers=dict(numbers or {}),
        by=by[:200],
        automatic=automatic,
        reverts=reverts,
    )


def knee(levels: Iterable[LevelEvidence]) -> LevelEvidence | None:
    """Return the level above which more at once bring less than 5 % more, or refusals.

    Only levels with a dozen logins count; None without any. The lowest of them is returned also
    where it was refused itself.
    """
    best: LevelEvidence | None = None
    for level in levels:
        if level.logins < WINDOW:
            continue
        bears = level.rejection_rate <= REFUSED_SHARE
        if best is None or (bears and level.brings >= best.brings * (1 + RISE)):
            best = level
    return best


def _for_site(
    row: Site, seen: SiteEvidence, *, effective: int, accounts: int, bounds: TuningBounds | None
) -> Recommendation:
    wanted, reason = _wanted(seen, effective, accounts)
    if bounds is not None and not bounds.lowest <= wanted <= bounds.highest:
        wanted = max(bounds.lowest, min(bounds.highest, wanted))
        reason = f"{reason} The bounds allow {bounds.lowest} to {bounds.highest}."
    return Recommendation(
        site=row.slug,
        present=row.max_concurrent,
        effective=effective,
        recommended=wanted,
        reason=reason,
        numbers=asdict(seen),
    )


def _wanted(seen: SiteEvidence, effective: int, accounts: int) -> tuple[int, str]:
    best = knee(seen.levels)
    if best is None:
        return effective, f"Keep {effective}: fewer than {WINDOW} logins at any level so far."
    if best.rejection_rate > REFUSED_SHARE:  # the lowest level known, and that is too high
        wanted = max(1, min(effective, best.concurrency - 1))
        verb = "Lower to" if wanted < effective else "Keep"
        return wanted, f"{verb} {wanted}: {_against(best, best)}."
    over = _too_many(seen.levels, best)
    known = [one for one in over if one.logins >= WINDOW and one.concurrency <= effective]
    refused = [level for level in known if level.rejection_rate > REFUSED_SHARE]
    if refused or (known and known[-1].concurrency == effective):
        worst = refused[0] if refused else known[-1]
        return best.concurrency, f"Lower to {best.concurrency}: {_against(worst, best)}."
    return _by_demand(seen, effective, best=best, over=over, accounts=accounts)


def _too_many(levels: Iterable[LevelEvidence], best: LevelEvidence) -> list[LevelEvidence]:
    """Return the levels above the best that a limit should stay below, the present one or not.

    All with a dozen logins are: they were refused, or bring no more. Of the others those where
    anything was refused: too little to lower a limit, enough not to raise it there.
    """
    return [
        level
        for level in levels
        if level.concurrency > best.concurrency and (level.logins >= WINDOW or level.rejected)
    ]


def _against(level: LevelEvidence, best: LevelEvidence) -> str:
    if level.rejection_rate > REFUSED_SHARE:
        return (
            f"with {level.concurrency} at once the site refused {level.rejection_rate:.0%} of "
            f"{level.logins} logins"
        )
    return (
        f"{level.concurrency} at once bring {level.brings:.3g} logins a second, "
        f"{best.concurrency} bring {best.brings:.3g}"
    )


def _by_demand(
    seen: SiteEvidence,
    effective: int,
    *,
    best: LevelEvidence,
    over: list[LevelEvidence],
    accounts: int,
) -> tuple[int, str]:
    needed = servers_for(seen.load)
    load = f"{seen.busy_per_s * 60:.3g} logins a minute of {seen.mean_login_s or 0:.3g} s"
    if needed <= effective:
        return effective, f"Keep {effective}: the busiest ten minutes ({load}) need {needed}."
    # Nobody knows what the site makes of more than was ever tried: one step at a time. And an
    # account makes one login at once.
    most, why = min(
        *((level.concurrency - 1, _against(level, best)) for level in over),
        (best.concurrency + 1, f"up to {best.concurrency} at once were tried"),
        (accounts, f"accounts that are enabled: {accounts}"),
        key=itemgetter(0),
    )
    wanted = max(effective, min(needed, most))
    verb = "Raise to" if wanted > effective else "Keep"
    return wanted, f"{verb} {wanted}: the busiest ten minutes ({load}) need {needed}; {why}."


def _over_all(
    seen: Evidence,
    sites: list[Recommendation],
    limits: AdmissionLimits,
    bounds: TuningBounds | None,
) -> Recommendation:
    present = limits.max_concurrent
    load = sum(one.load for one in seen.sites.values())
    active = [one for one in sites if seen.sites.get(one.site) and seen.sites[one.site].logins]
    together = sum(one.recommended for one in active)
    # Sites may be busy at different times, so the sum of their peaks is an upper bound.
    needed = min(servers_for(load) + limits.reserved_for_interactive, together)
    wanted, reason = present, f"Keep {present}: the busiest times of all sites need {needed}."
    if not active:
        reason = f"Keep {present}: no logins in the window."
    elif needed > present:
        wanted = needed
        reason = (
            f"Raise to {needed}: {len(active)} sites offer {load:.3g} logins at once at their "
            f"busiest, and may take {together} together."
        )
    if bounds is not None and not bounds.lowest <= wanted <= bounds.highest:
        wanted = max(bounds.lowest, min(bounds.highest, wanted))
        reason = f"{reason} The bounds allow {bounds.lowest} to {bounds.highest}."
    return Recommendation(
        site="",
        present=present,
        effective=present,
        recommended=wanted,
        reason=reason,
        numbers={"load": load, "together": together, "needed": needed},
    )
