"""What the recorded rows say about demand and about what each site bears."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, Final

from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber

from apps.tokens.errors import Blame, RateLimited
from apps.tokens.models import LoginAttempt, Site, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Status

# The newest rows that are looked at, in equal parts of the sites, but LEAST_ROWS of each at least;
# a site's window shrinks to them.
MOST_ROWS: Final = 20_000
LEAST_ROWS: Final = 1_000
BUSY: Final = timedelta(minutes=10)
# None that began longer before the window ends in it, also if it waited for a person.
LONGEST: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelEvidence:
    """Logins that began with `concurrency` at once, themselves too. Times in seconds.

    `rejected` are refusals for being too many, `failed` the site's or the network's other
    failures. `mean_s` is of all of them, as Little's law wants it for `brings`, the successful
    logins a second at this level; `success_mean_s` is of those that succeeded, None without any.
    """

    concurrency: int
    logins: int
    succeeded: int
    rejected: int
    failed: int
    mean_s: float
    success_mean_s: float | None
    brings: float

    @property
    def rejection_rate(self) -> float:
        """Return the share of the logins that was refused, 0 to 1."""
        return self.rejected / self.logins if self.logins else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEvidence:
    """A site's demand and supply in the window.

    `busy_per_s` is the arrivals a second that needed a login, in the busiest ten minutes;
    `load` those times the mean login: how many logins would be in flight if none had to wait.
    """

    site: str
    requests: int = 0
    logins: int = 0
    busy_per_s: float = 0.0
    mean_login_s: float | None = None
    p95_login_s: float | None = None
    mean_wait_s: float | None = None
    p95_wait_s: float | None = None
    expired: int = 0
    load: float = 0.0
    levels: tuple[LevelEvidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was recorded in [since, until), by site slug."""

    since: datetime
    until: datetime
    sites: dict[str, SiteEvidence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Login:
    """One ended login as a row tells it, without those that say nothing about the site."""

    concurrency: int
    took_s: float
    ok: bool
    code: str
    blame: str

    @property
    def rejected(self) -> bool:
        return self.code == RateLimited.code


def gather(*, since: datetime, until: datetime) -> Evidence:
    """Read the evidence of a window. Five queries, whatever the number of sites."""
    logins: dict[str, list[Login]] = defaultdict(list)
    for slug, login in told_logins(since=since, until=until):
        logins[slug].append(login)
    arrivals: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    rows = TokenRequest.objects.filter(created_at__gte=since, created_at__lt=until)
    columns = ("site__slug", "created_at", "started_at", "attempts", "status")
    for slug, *row in _newest(rows, "created_at").values_list(*columns):
        arrivals[slug].append(tuple(row))
    sites = {slug: _of_site(slug, logins[slug], arrivals[slug]) for slug in {*logins, *arrivals}}
    return Evidence(since=since, until=until, sites=dict(sorted(sites.items())))


def told_logins(*, since: datetime, until: datetime) -> Iterable[tuple[str, Login]]:
    """Yield (site, login) of what ended in the window and says something about the site.

    Refreshes are another, shorter thing; what was the account's or our own fault is no word on
    the site; a lost worker's login ended nobody knows when.
    """
    rows = LoginAttempt.objects.filter(
        # By site and start: that is the index there is.
        site__in=list(Site.objects.values_list("pk", flat=True)),
        started_at__gte=since - LONGEST,
        finished_at__gte=since,
        finished_at__lt=until,
        outcome__in=[Outcome.SUCCEEDED, Outcome.FAILED],
        used_refresh_token=False,
    ).annotate(slug=F("site__slug"))
    columns = (
        "slug", "concurrency_at_start", "started_at", "finished_at", "outcome", "error_code",
        "blame",
    )  # fmt: skip
    newest = _newest(rows, "finished_at").values_list(*columns)
    for slug, level, began, ended, outcome, code, blame in newest:
        ok = outcome == Outcome.SUCCEEDED
        if ok or blame in (Blame.SITE, Blame.NETWORK):
            yield slug, Login(level, (ended - began).total_seconds(), ok, code, blame)


def _newest(rows: QuerySet[Any], time: str) -> QuerySet[Any]:
    """Return each site's part of the rows, so that a busy one does not hide a quiet one."""
    part = max(LEAST_ROWS, MOST_ROWS // max(1, Site.objects.count()))
    number = Window(RowNumber(), partition_by="site", order_by=F(time).desc())
    numbered: QuerySet[Any] = rows.order_by().annotate(number=number)
    return numbered.filter(number__lte=part)


def level_evidence(concurrency: int, logins: Sequence[Login]) -> LevelEvidence:
    """Add up the logins of one level; there must be some."""
    good = [login.took_s for login in logins if login.ok]
    rejected = sum(login.rejected for login in logins)
    mean_s = fmean(login.took_s for login in logins)
    return LevelEvidence(
        concurrency=concurrency,
        logins=len(logins),
        succeeded=len(good),
        rejected=rejected,
        failed=len(logins) - len(good) - rejected,
        mean_s=mean_s,
        success_mean_s=fmean(good) if good else None,
        brings=concurrency * len(good) / len(logins) / mean_s if mean_s > 0 else 0.0,
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank quantile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _of_site(slug: str, logins: list[Login], arrivals: list[tuple[Any, ...]]) -> SiteEvidence:
    by_level: dict[int, list[Login]] = defaultdict(list)
    for login in logins:
        by_level[login.concurrency].append(login)
    good = [login.took_s for login in logins if login.ok]
    mean_s = fmean(good) if good else None
    waits = [(began - asked).total_seconds() for asked, began, *_ in arrivals if began]
    busy = _busiest_per_s(arrivals)
    return SiteEvidence(
        site=slug,
        requests=len(arrivals),
        logins=len(logins),
        busy_per_s=busy,
        mean_login_s=mean_s,
        p95_login_s=quantile(good, 0.95),
        mean_wait_s=sum(waits) / len(waits) if waits else None,
        p95_wait_s=quantile(waits, 0.95),
        expired=sum(status == Status.EXPIRED for *_, status in arrivals),
        load=busy * (mean_s or 0.0),
        levels=tuple(level_evidence(level, by_level[level]) for level in sorted(by_level)),
    )


def _busiest_per_s(arrivals: Iterable[tuple[Any, ...]]) -> float:
    """Return logins wanted a second in the busiest slot; one that none was made for counts too,
    unless another's token served it."""
    slots: Counter[int] = Counter()
    for asked, _began, attempts, status in arrivals:
        served_without = attempts == 0 and status in (Status.DONE, Status.CANCELLED)
        if not served_without:
            slots[int(asked.timestamp() // BUSY.total_seconds())] += max(1, attempts)
    return max(slots.values(), default=0) / BUSY.total_seconds()
