"""Forecasts held against what really happened: histories replayed minute by minute, and a score.

A replay knows at each minute only what was known then. A pool is empty when somebody who asks
gets nothing: no usable token, and no account that can log in, or the next login fails too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from apps.performance.services.forecast import (
    MOST_LOGINS,
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
# As the rule that ships raises and ends its alert: bad for a minute; then two minutes good by 5 %.
OPENS_AFTER: Final = 1
ENDS_AFTER: Final = 2
ENDS_PAST: Final = 1 / 0.95


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
    """How the alerts did that the forecasts would have raised.

    A false alarm is an alert in which, and after which, the pool did not run empty.
    """

    exhaustions: int
    missed: int
    alarms: int
    false_alarms: int
    lead_min: float | None

    @property
    def precision(self) -> float | None:
        """Return the share of alarms that were right; None without any."""
        return 1 - self.false_alarms / self.alarms if self.alarms else None

    @property
    def recall(self) -> float | None:
        """Return the share of exhaustions that were foreseen; None without any."""
        return 1 - self.missed / self.exhaustions if self.exhaustions else None

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

    An exhaustion counts as foreseen if an alert was open at least a minute before it began. The
    first minute of a history is no exhaustion: nothing could have been known.
    """
    within = timedelta(minutes=within_min)
    exhaustions = missed = raised = false = 0
    leads: list[float] = []
    for history in histories:
        moments = list(replay(history, forecaster))
        empty = {moment.at for moment in moments if moment.empty}
        alerts = list(alarms(moments, within_min=within_min))
        for start, _ in _runs(sorted(empty)):
            if start == history.since:
                continue
            before = [opened for opened, ended in alerts if opened < start <= ended + within]
            exhaustions += 1
            missed += not before
            leads += [(start - before[-1]).total_seconds() / 60] if before else []
        right = [any(a <= at <= b + within for at in empty) for a, b in alerts]
        # What the history does not tell any more can prove nothing wrong.
        open_ended = [b + within >= history.until for _, b in alerts]
        wrong = sum(not r and not o for r, o in zip(right, open_ended, strict=True))
        raised += sum(right) + wrong
        false += wrong
    return Score(
        exhaustions=exhaustions,
        missed=missed,
        alarms=raised,
        false_alarms=false,
        lead_min=median(leads) if leads else None,
    )


def alarms(moments: Iterable[Moment], *, within_min: float) -> Iterator[tuple[datetime, datetime]]:
    """Yield when each alert was opened and when it ended, as the rule that ships would."""
    opened: datetime | None = None
    bad = good = 0
    at = None
    for moment in moments:
        at, left = moment.at, moment.minutes
        bad = bad + 1 if left is not None and left <= within_min else 0
        good = good + 1 if left is None or left >= within_min * ENDS_PAST else 0
        if opened is None and bad > OPENS_AFTER:
            opened = at
        elif opened is not None and good > ENDS_AFTER:
            yield opened, at
            opened = None
    if opened is not None and at is not None:
        yield opened, at


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
    told = [(login.at, login.good) for login in past[-MOST_LOGINS:] if not login.blocks]
    return Pool(accounts=tuple(facts), logins=tuple(told))


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
