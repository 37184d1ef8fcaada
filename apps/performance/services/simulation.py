"""Recorded history replayed under proposed limits: what waits and failures would have been.

Every recorded request that needed a login asks again at its recorded time and makes the logins
it made, each as long as it was, lengthened where the evidence shows that more at once are slower.
Refusals are not played again, for the limits of then have made them: they are expected at the
rate seen at the level of each login. What nobody has recorded is not invented: logins begun above
the highest level ever seen are counted as `beyond_evidence`.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Final, NamedTuple
from uuid import UUID

from django.db.models import F

from apps.common.clock import database_now
from apps.common.errors import ValidationFailed
from apps.performance.services import evidence
from apps.performance.services.evidence import LevelEvidence, quantile
from apps.tokens.errors import RateLimited
from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, Site, TokenRequest
from apps.tokens.models.requests import BACKGROUND, Queue, Status
from apps.tokens.services.requests import HANDICAP_S, life_s

MOST_REQUESTS: Final = 50_000
RETRY_S: Final = 2.0
# Where a site has not one login on record; the same as what callers are told then.
UNKNOWN_LOGIN_S: Final = 30.0
FAILED: Final = (Status.FAILED, Status.DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits to try; `sites` holds those with a number of their own."""

    max_concurrent: int
    max_concurrent_per_site: int
    reserved_for_interactive: int = 1
    sites: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def present(cls) -> "Limits":
        """Return the limits that hold now."""
        row = AdmissionLimits.current()
        own = Site.objects.filter(max_concurrent__isnull=False)
        return cls(
            max_concurrent=row.max_concurrent,
            max_concurrent_per_site=row.max_concurrent_per_site,
            reserved_for_interactive=row.reserved_for_interactive,
            sites={slug: n for slug, n in own.values_list("slug", "max_concurrent") if n},
        )

    def of(self, site: str) -> int:
        """Return the limit of one site."""
        return self.sites.get(site, self.max_concurrent_per_site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of the requests. Waits in seconds, from asking to the first login.

    Each of the `requests` is in one of the next four. `cancelled` are those that nobody wanted
    any more after a login.
    """

    requests: int = 0
    served: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    logins: int = 0
    mean_wait_s: float | None = None
    p50_wait_s: float | None = None
    p95_wait_s: float | None = None
    max_wait_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The window as it was recorded, replayed under the present limits, and under the proposed.

    The present limits are replayed as well: what differs between that and the record is the
    error of the replay. `busiest` is the most logins at once, by site; `expected_rejections`
    counts at the rates seen, `beyond_evidence` the logins nobody can say anything about.
    """

    since: datetime
    until: datetime
    recorded: Figures
    present: Figures
    proposed: Figures
    by_site: Mapping[str, Figures]
    busiest: Mapping[str, int]
    expected_rejections: float
    beyond_evidence: int


class _Row(NamedTuple):
    """What is read of a recorded request."""

    pk: UUID
    slug: str
    queue: str
    status: str
    attempts: int
    created_at: datetime
    started_at: datetime | None


@dataclass(slots=True)
class _Job:
    """One recorded request: when it asked, and the logins it makes until it ends.

    `end` is DONE, FAILED or CANCELLED, unless it waits for too long. `refused` is how many of its
    logins are expected to be, `refusal_ends` the share of the refusals at its site that ended
    their request.
    """

    site: str
    asked_s: float
    order_s: float
    background: bool
    dies_s: float
    logins: list[tuple[float, int]]
    end: Status
    refusal_ends: float
    refused: float = 0.0
    step: int = 0
    began_s: float | None = None
    expired: bool = False


@dataclass(slots=True)
class _Replay:
    limits: Limits
    levels: Mapping[str, Mapping[int, LevelEvidence]]
    accounts: Mapping[str, int]
    now_s: float = 0.0
    flying: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, list[tuple[float, int, _Job]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    busiest: Counter[str] = field(default_factory=Counter)
    beyond: int = 0

    def run(self, jobs: list[_Job]) -> None:
        """Play all jobs to their end: arrivals, returns and ends in the order of their times."""
        serial = count()
        events = [(job.asked_s, next(serial), job, False) for job in jobs]
        heapq.heapify(events)
        while events:
            self.now_s, number, job, ends = heapq.heappop(events)
            if ends:
                self.flying[job.site] -= 1
                job.step += 1
                if job.step < len(job.logins):
                    heapq.heappush(events, (self.now_s + RETRY_S, next(serial), job, False))
            else:
                heapq.heappush(self.waiting[job.site], (job.order_s, number, job))
            for started, took_s in self._admit():
                heapq.heappush(events, (self.now_s + took_s, next(serial), started, True))

    def _admit(self) -> list[tuple[_Job, float]]:
        """Start what can start now, as admission does: the oldest head of a site with room."""
        started = []
        while (site := self._next()) is not None:
            _, _, job = heapq.heappop(self.waiting[site])
            if job.dies_s <= self.now_s and job.began_s is None:
                job.expired = True
                continue
            started.append((job, self._start(job)))
        return started

    def _next(self) -> str | None:
        heads = [
            (queue[0][0], site)
            for site, queue in self.waiting.items()
            if queue and self._has_room(site, background=queue[0][2].background)
        ]
        return min(heads)[1] if heads else None

    def _has_room(self, site: str, *, background: bool) -> bool:
        kept = self.limits.reserved_for_interactive if background else 0
        limit = self.limits.of(site)
        of_site = min(max(1, limit - kept), self.accounts.get(site, limit))
        over_all = max(1, self.limits.max_concurrent - kept)
        return self.flying[site] < of_site and self.flying.total() < over_all

    def _start(self, job: _Job) -> float:
        self.flying[job.site] += 1
        level = self.flying[job.site]
        self.busiest[job.site] = max(self.busiest[job.site], level)
        if job.began_s is None:
            job.began_s = self.now_s
        took_s, recorded = job.logins[job.step]
        seen = self.levels.get(job.site, {})
        if level > max(seen, default=0):
            self.beyond += 1
        then, now = seen.get(recorded), seen.get(level)
        job.refused += now.rejection_rate if now else 0.0
        # By what succeeded: a refusal is quick, and makes no login shorter.
        before_s = then.success_mean_s if then else None
        now_s = now.success_mean_s if now else None
        return took_s * (now_s / before_s if now_s and before_s else 1.0)


def simulate(limits: Limits, window_s: float) -> Simulation:
    """Replay the last `window_s` seconds under these limits. Deterministic.

    At most the newest 50,000 requests. Raises ValidationFailed for a limit below 1, or a window
    that is not between a minute and a month.
    """
    numbers = (limits.max_concurrent, limits.max_concurrent_per_site, *limits.sites.values())
    if min(numbers) < 1:
        raise ValidationFailed("Every limit is 1 or more.")
    if not 60 <= window_s <= 31 * 86_400:
        raise ValidationFailed("A window is between a minute and a month.")
    until = database_now()
    since = until - timedelta(seconds=window_s)
    found = evidence.gather(since=since, until=until)
    levels = {
        slug: {level.concurrency: level for level in seen.levels}
        for slug, seen in found.sites.items()
    }
    accounts = Counter(Account.objects.filter(enabled=True).values_list("site__slug", flat=True))
    rows = _rows(since, until)
    jobs = _jobs(rows, found)
    replayed = [replace(job) for job in jobs]
    _Replay(Limits.present(), levels, accounts).run(replayed)
    proposed = _Replay(limits, levels, accounts)
    proposed.run(jobs)
    by_site: dict[str, list[_Job]] = defaultdict(list)
    for job in jobs:
        by_site[job.site].append(job)
    return Simulation(
        since=since,
        until=until,
        recorded=_recorded(rows),
        present=_figures(replayed),
        proposed=_figures(jobs),
        by_site={slug: _figures(its) for slug, its in sorted(by_site.items())},
        busiest=dict(sorted(proposed.busiest.items())),
        expected_rejections=round(sum(job.refused for job in jobs), 3),
        beyond_evidence=proposed.beyond,
    )


def _rows(since: datetime, until: datetime) -> list[_Row]:
    """Return the requests that ended and needed a login, oldest first."""
    rows = TokenRequest.objects.filter(created_at__gte=since, created_at__lt=until)
    ended = rows.filter(finished_at__isnull=False).exclude(
        attempts=0, status__in=[Status.DONE, Status.CANCELLED, Status.FAILED]
    )
    newest = ended.order_by("-created_at").annotate(slug=F("site__slug"))[:MOST_REQUESTS]
    return [_Row(*row) for row in newest.values_list(*_Row._fields)][::-1]


def _jobs(rows: list[_Row], found: evidence.Evidence) -> list[_Job]:
    made, refused = _logins(rows)
    failed = {row.pk for row in rows if row.status in FAILED}
    by_refusals = failed & refused.keys() - made.keys()
    ends = _refusals_that_end(rows, refused, by_refusals)
    limits = AdmissionLimits.current()
    jobs = []
    for row in rows:
        seen = found.sites.get(row.slug)
        usual_s = (seen.mean_login_s if seen else None) or UNKNOWN_LOGIN_S
        asked_s = row.created_at.timestamp()
        job = _Job(
            site=row.slug,
            asked_s=asked_s,
            order_s=asked_s + HANDICAP_S[Queue(row.queue)],
            background=row.queue in BACKGROUND,
            dies_s=asked_s + life_s(row.queue, limits),
            logins=made.get(row.pk) or [(usual_s, 1)],
            end=_end(row, by_refusals),
            refusal_ends=ends[row.slug],
        )
        jobs.append(job)
    return jobs


def _end(row: _Row, by_refusals: Set[UUID]) -> Status:
    """Return what a request ends as once it has made its logins."""
    if row.status == Status.CANCELLED:
        return Status.CANCELLED
    # An expired one never got its turn: it might have been served.
    fails = row.status in FAILED and row.pk not in by_refusals
    return Status.FAILED if fails else Status.DONE


def _logins(
    rows: list[_Row],
) -> tuple[dict[UUID, list[tuple[float, int]]], Counter[UUID]]:
    """Return by request its logins, each as (seconds, level), and how many more were refused."""
    made: dict[UUID, list[tuple[float, int]]] = defaultdict(list)
    refused: Counter[UUID] = Counter()
    if not rows:
        return made, refused
    attempts = LoginAttempt.objects.filter(
        request__created_at__gte=rows[0].created_at, finished_at__isnull=False
    ).order_by("started_at")
    columns = ("request_id", "started_at", "finished_at", "concurrency_at_start", "error_code")
    for request, began, ended, level, code in attempts.values_list(*columns).iterator():
        if code == RateLimited.code:
            refused[request] += 1
        else:
            made[request].append(((ended - began).total_seconds(), level))
    return made, refused


def _refusals_that_end(
    rows: list[_Row], refused: Counter[UUID], by_refusals: Set[UUID]
) -> dict[str, float]:
    """Return by site the share of refusals after which the request was given up."""
    n: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for row in rows:
        n[row.slug] += refused[row.pk]
        ended[row.slug] += row.pk in by_refusals
    return {slug: ended[slug] / n[slug] if n[slug] else 0.0 for slug in n}


def _figures(jobs: list[_Job]) -> Figures:
    played = [job for job in jobs if not job.expired]
    ends = Counter(job.end for job in played)
    good = [job for job in played if job.end == Status.DONE]
    refused = round(sum(min(1, job.refused) * job.refusal_ends for job in good))
    waits = [job.began_s - job.asked_s for job in jobs if job.began_s is not None]
    return _with_waits(
        waits,
        requests=len(jobs),
        served=len(good) - refused,
        failed=ends[Status.FAILED] + refused,
        expired=len(jobs) - len(played),
        cancelled=ends[Status.CANCELLED],
        logins=sum(job.step for job in jobs),
    )


def _recorded(rows: list[_Row]) -> Figures:
    statuses = Counter(row.status for row in rows)
    waits = [(row.started_at - row.created_at).total_seconds() for row in rows if row.started_at]
    return _with_waits(
        waits,
        requests=len(rows),
        served=statuses[Status.DONE],
        failed=sum(statuses[status] for status in FAILED),
        expired=statuses[Status.EXPIRED],
        cancelled=statuses[Status.CANCELLED],
        logins=sum(row.attempts for row in rows),
    )


def _with_waits(waits: list[float], **counts: int) -> Figures:
    if not waits:
        return Figures(**counts)
    return Figures(
        mean_wait_s=sum(waits) / len(waits),
        p50_wait_s=quantile(waits, 0.5),
        p95_wait_s=quantile(waits, 0.95),
        max_wait_s=max(waits),
        **counts,
    )
