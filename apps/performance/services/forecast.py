"""When a site's pool will have nothing left to serve with: no usable token, no way to a new one.

The tokens of a pool end at known times. Before the last of them ends, somebody must log in; so
the question is whether a login can still be expected to succeed:

- an account must be able to log in before then (the predicate of selection itself says who may,
  and when those that rest may again);
- logins at the site must work at present. Their chance is the weighted share of successes among
  those of the last hour, the newest first, each weighing 0.8 of the one after it, and one success
  in advance of the first. Failures of one site come together, so a streak says more than an
  average: five in a row, after a good past, and nothing is expected of the next. (Over 60 made-up
  days it misses 5 of 61 exhaustions and raises a quarter of the false alarms that the times of
  expiry alone would; a test counts both.)

`services/forecast_replay.py` holds this against histories and counts misses and false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    Site,
    SiteBreaker,
    StoredToken,
)
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.breakers import BreakerState
from apps.tokens.services import hours, selection

WITHIN_MIN: Final = 15.0
LOOK_BACK: Final = timedelta(hours=1)
MOST_LOGINS: Final = 20
DECAY: Final = 0.8
IN_ADVANCE: Final = 1.0
NEEDED_CHANCE: Final = 0.45
# As long as a request lives by default: a shorter gap is a wait, not an exhausted pool.
WORTH_WAITING: Final = timedelta(minutes=5)
SHUT: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """One account of a pool. `able_from` None: not before a person acts."""

    usable_until: datetime | None
    able_from: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All that a forecast needs. `logins` are (when it ended, whether it gave a token)."""

    accounts: tuple[AccountFacts, ...]
    logins: tuple[tuple[datetime, bool], ...]
    breaker_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`exhausted_in_min` is None where no end is in sight, 0 where it has come.

    `reason` says why: `lasts`, `no_accounts`, `closed`, `closes_before`; or what empties the
    pool: `no_account_can_log_in`, `accounts_rest_too_long`, `logins_fail`, `breaker_open`.
    """

    site: str
    at: datetime
    exhausted_in_min: float | None
    reason: str
    accounts: int = 0
    accounts_able: int = 0
    tokens_usable: int = 0
    tokens_last_until: datetime | None = None
    login_chance: float | None = None


def of_site(site: Site, *, at: datetime) -> Forecast:
    """Return the forecast of a site from its rows."""
    if not hours.is_open(site, at=at):
        return Forecast(site=site.slug, at=at, exhausted_in_min=None, reason="closed")
    found = of_pool(_pool_of(site, at=at), site=site.slug, at=at)
    minutes = found.exhausted_in_min
    if minutes and not hours.is_open(site, at=at + timedelta(minutes=minutes)):
        # Tokens that end in the closed hours are meant to.
        return _without_end(found, "closes_before")
    return found


def of_pool(pool: Pool, *, site: str, at: datetime) -> Forecast:
    """Return the forecast of a pool. Pure: the same facts give the same answer."""
    ends = [a.usable_until for a in pool.accounts if a.usable_until and a.usable_until > at]
    able = [a.able_from for a in pool.accounts if a.able_from is not None]
    last = max(ends, default=None)
    end = last or at
    chance = login_chance(pool.logins, at=at)
    reason = _what_empties(able, end=end, chance=chance, breaker_open=pool.breaker_open)
    if not pool.accounts:
        reason = "no_accounts"
    minutes = (end - at).total_seconds() / 60
    return Forecast(
        site=site,
        at=at,
        exhausted_in_min=None if reason in ("lasts", "no_accounts") else minutes,
        reason=reason,
        accounts=len(pool.accounts),
        accounts_able=sum(moment <= at for moment in able),
        tokens_usable=len(ends),
        tokens_last_until=last,
        login_chance=chance,
    )


def login_chance(logins: Sequence[tuple[datetime, bool]], *, at: datetime) -> float:
    """Return the chance that the next login succeeds, from 0 to 1."""
    recent = sorted((login for login in logins if at - LOOK_BACK < login[0] <= at), reverse=True)
    weights = [(DECAY**age, good) for age, (_, good) in enumerate(recent[:MOST_LOGINS])]
    won = sum(weight for weight, good in weights if good)
    return (won + IN_ADVANCE) / (sum(weight for weight, _ in weights) + IN_ADVANCE)


def _what_empties(
    able: Sequence[datetime], *, end: datetime, chance: float, breaker_open: bool
) -> str:
    if not able:
        return "no_account_can_log_in"
    if min(able) > end + WORTH_WAITING:
        return "accounts_rest_too_long"
    if breaker_open:
        return "breaker_open"
    return "logins_fail" if chance < NEEDED_CHANCE else "lasts"


def _pool_of(site: Site, *, at: datetime) -> Pool:
    accounts = Account.objects.filter(site=site)
    judged = selection.judge(accounts, site=site, at=at, limits=AdmissionLimits.current())
    tokens = StoredToken.objects.usable(at=at).filter(account__site=site)
    usable = {row.account_id: _end_of(row) for row in tokens}
    logins = (
        LoginAttempt.objects.filter(site=site, finished_at__gt=at - LOOK_BACK)
        .exclude(outcome__in=[Outcome.OPEN, Outcome.SUPERSEDED])
        .order_by("-started_at")
        .values_list("finished_at", "outcome")[:MOST_LOGINS]
    )
    return Pool(
        accounts=tuple(
            AccountFacts(usable_until=usable.get(found.account.pk), able_from=_able_from(found, at))
            for found in judged
        ),
        logins=tuple((ended, how == Outcome.SUCCEEDED) for ended, how in logins if ended),
        breaker_open=SiteBreaker.objects.filter(site=site, state__in=SHUT).exists(),
    )


def _end_of(token: StoredToken) -> datetime:
    return min(token.usable_until, token.idle_until) if token.idle_until else token.usable_until


def _able_from(found: selection.Judged, at: datetime) -> datetime | None:
    # One that is logging in right now counts among the able: its login is in the chance.
    return at if found.why_not is None else found.why_not.until


def _without_end(found: Forecast, reason: str) -> Forecast:
    values = {name: getattr(found, name) for name in Forecast.__dataclass_fields__}
    return Forecast(**values | {"exhausted_in_min": None, "reason": reason})
