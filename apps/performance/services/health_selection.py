"""Whether selection can serve: by the predicate that selection itself goes by."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from apps.common import clock
from apps.performance.models.alerts import Severity
from apps.performance.services.health_checks import Facts, Reason, Unwell, reason
from apps.tokens.models import Account, AdmissionLimits, Site, SiteBreaker, StoredToken
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import hours, selection

# Nothing is decided by these, and of many accounts they are most of what there is.
UNREAD: Final = ("secrets", "labels", "site__recipe", "site__allowed_hosts", "site__proxy")
# Of each site so many are judged first: where one of them may log in, no more need be asked.
LIKELY: Final = 3
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
        others_able = len(verdicts) < len(open_sites)
        with_accounts = [verdict for verdict in verdicts if verdict.accounts]
        found = _reasons(with_accounts, others_able=others_able)
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
    """Judge all accounts of the sites where not one of the likely ones may log in."""
    likely = _judged(_likely(sites, at=at), at=at, limits=limits)
    able = {one.account.site_id for one in likely if one.why_not is None}
    sites = [site for site in sites if site.pk not in able]
    judged: dict[UUID, list[selection.Judged]] = {site.pk: [] for site in sites}
    for one in _judged(Account.objects.filter(site__in=sites), at=at, limits=limits):
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


def _judged(
    accounts: QuerySet[Account], *, at: datetime, limits: AdmissionLimits
) -> list[selection.Judged]:
    rows = accounts.select_related("site").defer(*UNREAD).order_by()
    return selection.judge_all(rows, at=at, limits=limits)


def _likely(sites: list[Site], *, at: datetime) -> QuerySet[Account]:
    """Return the few accounts of each site that rested longest, of those nothing obvious bars."""
    ready = Q(cooldown_until=None) | Q(cooldown_until__lte=at)
    rested = Window(
        RowNumber(), partition_by="site", order_by=F("last_attempt_at").asc(nulls_first=True)
    )
    rows = Account.objects.filter(ready, site__in=sites, enabled=True, needs_action="")
    few = rows.order_by().annotate(place=rested).filter(place__lte=LIKELY)
    return Account.objects.filter(pk__in=list(few.values_list("pk", flat=True)))


def _reasons(verdicts: list[_Verdict], *, others_able: bool) -> list[Reason]:
    nobody = not others_able and all(one.unable and not one.tokens for one in verdicts)
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
