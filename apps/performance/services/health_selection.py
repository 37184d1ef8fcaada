"""Whether selection can serve: by the predicate that selection itself goes by."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.common import clock
from apps.performance.models.alerts import Severity
from apps.performance.services.health_checks import Facts, Reason, Unwell, reason
from apps.tokens.models import Account, AdmissionLimits, Site, SiteBreaker, StoredToken
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import hours, selection

# Nothing is decided by these, and of many accounts they are most of what there is.
UNREAD: Final = ("secrets", "labels", "site__recipe", "site__allowed_hosts", "site__proxy")
SHUT: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """Why each account of a site may not log in; `tokens` says whether old ones still serve."""

    site: str
    accounts: int
    refused: tuple[str, ...]
    tokens: bool

    @property
    def unable(self) -> bool:
        # One that is logging in at this moment works.
        all_refused = 0 < self.accounts == len(self.refused)
        return all_refused and "account_busy" not in self.refused


@dataclass(frozen=True, slots=True)
class SelectionCheck:
    """Every open site that has accounts has one that may log in, and no breaker in the way.

    A site that still has usable tokens is a low reason, one that has none a medium one; if not
    one site is left that can serve, a high one.
    """

    name: str = "selection"
    needs_database: bool = True

    def run(self) -> Facts:
        at, limits = clock.database_now(), AdmissionLimits.current()
        sites = list(Site.objects.filter(enabled=True))
        closed = hours.closed_sites(sites, limits, at=at)
        open_sites = [site for site in sites if site.pk not in closed]
        verdicts = _verdicts(open_sites, at=at, limits=limits)
        found = _reasons([verdict for verdict in verdicts if verdict.accounts])
        shut = SiteBreaker.objects.filter(site__in=open_sites, state__in=SHUT)
        found += [
            reason("breaker_open", Severity.MEDIUM, f"The breaker of {slug} is open.")
            for slug in shut.values_list("site__slug", flat=True)
        ]
        facts = {
            "sites": len(sites),
            "closed": len(closed),
            "unable": sorted(verdict.site for verdict in verdicts if verdict.unable),
        }
        if found:
            raise Unwell(*found, facts=facts)
        return facts


def _verdicts(sites: list[Site], *, at: datetime, limits: AdmissionLimits) -> list[_Verdict]:
    rows = Account.objects.filter(site__in=sites).select_related("site").order_by()
    judged: dict[UUID, list[selection.Judged]] = {site.pk: [] for site in sites}
    for one in selection.judge_all(rows.defer(*UNREAD), at=at, limits=limits):
        judged[one.account.site_id].append(one)
    tokens = StoredToken.objects.usable(at=at).filter(account__site__in=sites)
    holding = set(tokens.order_by().values_list("account__site", flat=True).distinct())
    return [
        _Verdict(
            site=site.slug,
            accounts=len(judged[site.pk]),
            refused=tuple(one.why_not.code for one in judged[site.pk] if one.why_not is not None),
            tokens=site.pk in holding,
        )
        for site in sites
    ]


def _reasons(verdicts: list[_Verdict]) -> list[Reason]:
    nobody = all(verdict.unable and not verdict.tokens for verdict in verdicts)
    none_left = Severity.HIGH if nobody else Severity.MEDIUM
    return [
        reason(
            "no_account_can_log_in",
            Severity.LOW if verdict.tokens else none_left,
            f"No account of {verdict.site} may log in ({', '.join(sorted(set(verdict.refused)))}).",
        )
        for verdict in verdicts
        if verdict.unable
    ]
