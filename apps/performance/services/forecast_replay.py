"""Forecasts held against what really happened: histories replayed minute by minute, and a score.

A replay knows at each minute only what was known then. A pool is empty when somebody who asks
gets nothing: no usable token, and no account that can log in, or the next login fails too.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from apps.performance.services.forecast import (
    LOOK_BACK,
    WITHIN_MIN,
    WORTH_WAITING,
    AccountFacts,
    Forecast,
    Pool,
    of_pool,
)
from apps.tokens.errors import Blame
from apps.tokens.models import LoginAttempt, Site
from apps.tokens.models.attempts import Outcome

STEP: Final = timedelta(minutes=1)
NEXT_LOGIN_WITHIN: Final = timedelta(minutes=10)
REST: Final = timedelta(minutes=2)
START: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One login of a history. `blocks`: the account may not log in again before a person acts."""

    at: datetime
    account: str
    good: bool
    blocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The logins of one site in [since, until), oldest first, and how long its tokens live."""

    name: str
    accounts: tuple[str, ...]
    life: timedelta
    logins: tuple[Login, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was forecast at one minute, and whether the pool was empty."""

    at: datetime
    minutes: float | None
    empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How the forecasts did. A false alarm is one after which the pool did not run empty."""

    exhaustions: int
    missed: int
    alarms: int
    false_alarms: int
    lead_min: float | None

    def __str__(self) -> str:
        lead = "-" if self.lead_min is None else f"{self.lead_min:.0f} min"
        return (
            f"{self.exhaustions} exhaustions, {self.missed} missed; {self.alarms} alarms, "
            f"{self.false_alarms} false; {lead} of warning (median)"
        )


Forecaster = Callable[[Pool, datetime], float | None]


def ours(pool: Pool, at: datetime) -> float | None:
    """The forecast that the service makes."""
    found: Forecast = of_pool(pool, site="", at=at)
    return found.exhausted_in_min


def by_expiry(pool: Pool, at: datetime) -> float | None:
    """The plain one to compare with: the pool ends with its last token, whatever logins do."""
    ends = [a.usable_until for a in pool.accounts if a.usable_until and a.usable_until > at]
    return (max(ends) - at).total_seconds() / 60 if ends else 0.0


def replay(history: History, forecaster: Forecaster = ours) -> Iterator[Moment]:
    """Yield one moment for each minute."""
    at, past, coming = history.since, [], list(history.logins)
    while at < history.until:
        while coming and coming[0].at <= at:
            past.append(coming.pop(0))
        pool = _pool(history, past, at=at)
        yield Moment(at=at, minutes=forecaster(pool, at), empty=_is_empty(pool, coming, at=at))
        at += STEP


def score(
    histories: Iterable[History],
    *,
    within_min: float = WITHIN_MIN,
    forecaster: Forecaster = ours,
) -> Score:
    """Count, over some histories, what was foreseen, missed, and foreseen in vain.

    An exhaustion counts as foreseen if an alarm stood at least a minute before it began. The
    first minute of a history is no exhaustion: nothing could have been known.
    """
    within = timedelta(minutes=within_min)
    exhaustions = missed = alarms = false = 0
    leads: list[float] = []
    for history in histories:
        moments = list(replay(history, forecaster))
        warned = [m for m in moments if m.minutes is not None and m.minutes <= within_min]
        empty = {moment.at for moment in moments if moment.empty}
        calls = _runs(moment.at for moment in warned if moment.at not in empty)
        ends = [run for run in _runs(sorted(empty)) if run[0] != history.since]
        for start, _ in ends:
            before = [a for a, b in calls if a < start and b >= start - within]
            exhaustions += 1
            missed += not before
            leads += [(start - before[-1]).total_seconds() / 60] if before else []
        # What the history does not tell any more can prove nothing wrong.
        told = [call for call in calls if call[1] + within < history.until]
        alarms += len(told)
        false += sum(not any(a <= at <= b + within for at in empty) for a, b in told)
    return Score(
        exhaustions=exhaustions,
        missed=missed,
        alarms=alarms,
        false_alarms=false,
        lead_min=median(leads) if leads else None,
    )


def recorded(site: Site, *, since: datetime, until: datetime) -> History:
    """Return what the rows tell of a site; tokens lived as long as its newest one does."""
    rows = LoginAttempt.objects.filter(site=site, finished_at__gte=since, finished_at__lt=until)
    ended = rows.exclude(outcome__in=[Outcome.OPEN, Outcome.SUPERSEDED])
    logins = tuple(
        Login(
            at=row.finished_at or row.started_at,
            account=row.account.username,
            good=row.outcome == Outcome.SUCCEEDED,
            blocks=row.blame == Blame.CREDENTIALS,
        )
        for row in ended.select_related("account").order_by("finished_at")
    )
    life_s = (site.observed_ttl_s or site.default_ttl_s) - site.safety_margin_s
    return History(
        name=site.slug,
        accounts=tuple(sorted({login.account for login in logins})),
        life=timedelta(seconds=max(1, life_s)),
        logins=logins,
        since=since,
        until=until,
    )


def generated(seed: int) -> History:
    """Return a day of a made-up site: flaky logins, some outages, sometimes passwords that end."""
    dice = random.Random(seed)  # noqa: S311 - the same seed must give the same day
    life = timedelta(minutes=dice.choice([15, 30, 60]))
    accounts = tuple(f"account-{number}" for number in range(dice.randint(1, 5)))
    flaky = dice.choice([0.02, 0.05, 0.15, 0.3])
    until = START + timedelta(hours=10)
    outages = [
        (begin, begin + timedelta(minutes=dice.choice([3, 10, 40, 90])))
        for begin in (START + timedelta(minutes=dice.randint(60, 540)) for _ in range(2))
    ]
    passwords_end = START + timedelta(minutes=dice.randint(120, 1_200))
    logins: list[Login] = []
    good_until = dict.fromkeys(accounts, START)
    rest_until = {name: START + STEP * number * 3 for number, name in enumerate(accounts)}
    blocked: set[str] = set()
    at = START
    while at < until:
        for name in accounts:
            due = good_until[name] - life / 4 <= at and rest_until[name] <= at
            if name in blocked or not due:
                continue
            down = any(begin <= at < end for begin, end in outages)
            blocks = not down and at >= passwords_end
            good = not down and not blocks and dice.random() >= flaky
            logins.append(Login(at=at, account=name, good=good, blocks=blocks))
            if good:
                good_until[name] = at + life
            else:
                rest_until[name] = at + REST
                blocked |= {name} if blocks else set()
        at += STEP
    return History(
        name=f"generated-{seed}",
        accounts=accounts,
        life=life,
        logins=tuple(logins),
        since=START,
        until=until,
    )


def _pool(history: History, past: list[Login], *, at: datetime) -> Pool:
    newest = {login.account: login for login in past}
    given = {login.account: login.at + history.life for login in past if login.good}
    facts = []
    for name in history.accounts:
        login = newest.get(name)
        resting = login is not None and not login.good
        able: datetime | None = login.at + REST if login and resting else at
        if login is not None and login.blocks:
            able = None
        facts.append(AccountFacts(usable_until=given.get(name), able_from=able))
    recent = [login for login in past[-100:] if login.at > at - LOOK_BACK]
    return Pool(accounts=tuple(facts), logins=tuple((login.at, login.good) for login in recent))


def _is_empty(pool: Pool, coming: list[Login], *, at: datetime) -> bool:
    if any(a.usable_until and a.usable_until > at for a in pool.accounts):
        return False
    if not any(a.able_from and a.able_from <= at + WORTH_WAITING for a in pool.accounts):
        return True
    return bool(coming) and not coming[0].good and coming[0].at - at <= NEXT_LOGIN_WITHIN


def _runs(moments: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """Return (first, last) of each stretch of neighbouring minutes."""
    runs: list[tuple[datetime, datetime]] = []
    for at in moments:
        if runs and at - runs[-1][1] <= STEP:
            runs[-1] = runs[-1][0], at
        else:
            runs.append((at, at))
    return runs
