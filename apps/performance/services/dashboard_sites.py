"""How each site is now, for the dashboard: what holds it back, its pool, its work."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Count, Max, Min, Sum

from apps.common import events
from apps.history.contracts import HistoryStatus
from apps.performance import selectors
from apps.performance.services.distributions import Tally
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    Site,
    SiteBreaker,
    StoredToken,
    TokenRequest,
)
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.breakers import BreakerState
from apps.tokens.models.requests import Status
from apps.tokens.services import hours, selection

_BREAKERS: Final = {
    BreakerState.OPEN: "breaker open",
    BreakerState.HALF_OPEN: "breaker half open",
    BreakerState.FORCED_OPEN: "breaker held open",
    BreakerState.FORCED_CLOSED: "breaker held closed",
}
_METRICS: Final = (events.ACQUISITIONS, events.LOGIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One thing about a site; `tone` is good, warn, bad or empty for what is meant to be so."""

    text: str
    tone: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The accounts of a site: all, those that may log in, those with a token that serves."""

    accounts: int = 0
    able: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine:
    """One site. `login_s` is the p95 of the window, None where nobody logged in."""

    id: UUID
    slug: str
    states: tuple[State, ...]
    pool: Pool
    running: int
    waiting: int
    succeeded: int
    ended: int
    login_s: float | None

    @property
    def tone(self) -> str:
        """Return the worst tone of its states."""
        tones = {state.tone for state in self.states}
        return next((tone for tone in ("bad", "warn") if tone in tones), "good")


def sites(*, since: datetime, at: datetime) -> list[SiteLine]:
    """Return all sites, those that need a look first, then by name."""
    limits = AdmissionLimits.current()
    breakers = dict(SiteBreaker.objects.values_list("site", "state"))
    pools = _pools(at=at, limits=limits)
    open_logins = LoginAttempt.objects.filter(outcome=Outcome.OPEN).order_by()
    running = dict(open_logins.values_list("site").annotate(Count("pk")))
    queued = TokenRequest.objects.filter(status=Status.QUEUED).order_by()
    waiting = dict(queued.values_list("site").annotate(Count("pk")))
    measured = _measured(since=since, until=at)
    lines = [
        _line(
            site,
            _states(site, breakers.get(site.pk, ""), pools[site.pk], at=at, limits=limits),
            pools[site.pk],
            running=running.get(site.pk, 0),
            waiting=waiting.get(site.pk, 0),
            measured=measured.get(site.slug, {}),
        )
        for site in Site.objects.defer("recipe", "proxy").order_by("slug")
    ]
    order = {"bad": 0, "warn": 1, "good": 2}
    return sorted(lines, key=lambda line: order[line.tone])


def _line(
    site: Site,
    states: tuple[State, ...],
    pool: Pool,
    *,
    running: int,
    waiting: int,
    measured: Mapping[tuple[str, str], Tally],
) -> SiteLine:
    ended = {
        label: tally.counted
        for (metric, label), tally in measured.items()
        if metric == events.ACQUISITIONS and label != events.CANCELLED
    }
    logins = Tally()
    for (metric, _), tally in measured.items():
        if metric == events.LOGIN_S:
            logins.merge(tally)
    return SiteLine(
        id=site.pk,
        slug=site.slug,
        states=states,
        pool=pool,
        running=running,
        waiting=waiting,
        succeeded=ended.get(HistoryStatus.SUCCESS, 0),
        ended=sum(ended.values()),
        login_s=logins.quantiles([0.95])[0] if logins.n else None,
    )


def _states(
    site: Site, breaker: str, pool: Pool, *, at: datetime, limits: AdmissionLimits
) -> tuple[State, ...]:
    """Return what is to be known about a site; one line that all is well where that is so."""
    found = []
    if not site.enabled:
        return (State(text="disabled"),)
    if limits.paused:
        found.append(State(text="everything paused", tone="warn"))
    opens_at = hours.opens_at(site, at=at)
    if opens_at != at:
        paused = site.paused and (site.paused_until is None or site.paused_until > at)
        found.append(State(text="paused" if paused else "closed hours", until=opens_at))
    if site.cooldown_until and site.cooldown_until > at:
        found.append(State(text="asked to slow down", tone="warn", until=site.cooldown_until))
    if text := _BREAKERS.get(BreakerState(breaker or BreakerState.CLOSED)):
        shut = breaker in (BreakerState.OPEN, BreakerState.FORCED_OPEN)
        found.append(State(text=text, tone="bad" if shut else "warn"))
    if not pool.accounts:
        found.append(State(text="no accounts"))
    elif not pool.able:
        tone = "warn" if pool.tokens else "bad"
        found.append(State(text="no account may log in", tone=tone))
    return tuple(found) or (State(text="open", tone="good"),)


def _pools(*, at: datetime, limits: AdmissionLimits) -> defaultdict[UUID, Pool]:
    # Recipes and secrets stay where they are.
    accounts = Account.objects.select_related("site").only(
        "enabled", "needs_action", "cooldown_until", "cooldown_reason",
        "site__budget_window_s", "site__budget_per_account",
    )  # fmt: skip
    judged = selection.judge_all(accounts.order_by(), at=at, limits=limits)
    usable = StoredToken.objects.usable(at=at).order_by().values_list("account__site")
    tokens = dict(usable.annotate(Count("pk")))
    everyone = Counter(found.account.site_id for found in judged)
    # One that is logging in at this moment works.
    able = Counter(
        found.account.site_id
        for found in judged
        if found.why_not is None or found.why_not.code == "account_busy"
    )
    pools: defaultdict[UUID, Pool] = defaultdict(Pool)
    for pk, n in everyone.items():
        pools[pk] = Pool(accounts=n, able=able[pk], tokens=tokens.get(pk, 0))
    return pools


def _measured(*, since: datetime, until: datetime) -> dict[str, dict[tuple[str, str], Tally]]:
    """Return slug → (metric, label) → tally."""
    found: dict[str, dict[tuple[str, str], Tally]] = {}
    summed = (
        selectors.rows(_METRICS, since=since, until=until)
        .values_list("site", "metric", "label", "bucket")
        .annotate(Sum("n"), Sum("total"), Min("min"), Max("max"))
    )
    for slug, metric, label, *row in summed:
        found.setdefault(slug, {}).setdefault((metric, label), Tally()).add(*row)
    return found
