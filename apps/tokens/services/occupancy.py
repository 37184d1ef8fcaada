"""Who holds permits now, and where nothing can start: read once for each admission."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from apps.tokens.models import AdmissionLimits, LoginAttempt, Site
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import BACKGROUND, Status
from apps.tokens.services import breaker, hours


@dataclass(slots=True)
class Occupancy:
    """Who holds permits now, and which sites nothing can start at.

    `site_limits` has the sites that are in use. `resting_sites` are closed, paused, cooling or
    broken, or there is nothing to be had there in this transaction.
    """

    limits: AdmissionLimits
    by_site: Counter[UUID]
    site_limits: dict[UUID, int]
    busy_accounts: set[UUID]
    resting_sites: set[UUID]

    @classmethod
    def read(cls, limits: AdmissionLimits, *, at: datetime) -> "Occupancy":
        rows = list(
            LoginAttempt.objects.filter(outcome=Outcome.OPEN)
            .order_by()
            .values_list("site_id", "account_id", "site__max_concurrent", "request__status")
        )
        # While a login waits for a person it keeps its account and gives back the rest.
        counted = [row for row in rows if row[3] != Status.PAUSED]
        return cls(
            limits=limits,
            by_site=Counter(row[0] for row in counted),
            site_limits={row[0]: row[2] or limits.max_concurrent_per_site for row in counted},
            busy_accounts={row[1] for row in rows},
            resting_sites=_resting_sites(limits, at=at),
        )

    def add(self, site: Site, account_id: UUID) -> None:
        """Count one more login."""
        self.by_site[site.pk] += 1
        self.site_limits[site.pk] = site.max_concurrent or self.limits.max_concurrent_per_site
        self.busy_accounts.add(account_id)

    @property
    def total(self) -> int:
        return self.by_site.total()

    @property
    def full_sites(self) -> set[UUID]:
        """Return the sites that have no permit left."""
        return {site for site, n in self.by_site.items() if n >= self.site_limits[site]}

    @property
    def background_full(self) -> bool:
        """Say whether the permits that are left are kept for who is waiting in person."""
        return self.total >= self._shared(self.limits.max_concurrent)

    @property
    def background_full_sites(self) -> set[UUID]:
        """Return the sites whose permits that are left are kept for who is waiting in person."""
        return {
            site for site, n in self.by_site.items() if n >= self._shared(self.site_limits[site])
        }

    def closed_sites(self, queue: str) -> set[UUID]:
        """Return where nothing of this queue can start now."""
        full = self.background_full_sites if queue in BACKGROUND else self.full_sites
        return full | self.resting_sites

    def _shared(self, limit: int) -> int:
        return max(1, limit - self.limits.reserved_for_interactive)


def _resting_sites(limits: AdmissionLimits, *, at: datetime) -> set[UUID]:
    """Return the sites that are closed, paused or cooling, or whose breaker is open."""
    scheduled = Site.objects.filter(Q(paused=True) | ~Q(closed_hours=[]))
    cooling = Site.objects.filter(cooldown_until__gt=at).values_list("pk", flat=True)
    closed: set[UUID] = hours.closed_sites(scheduled, limits, at=at)
    return closed | set(cooling) | breaker.blocked_sites(at=at)
