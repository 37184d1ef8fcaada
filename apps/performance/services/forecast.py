"""When a site's pool will have nothing left to serve with: no usable token, no way to a new one.

The tokens of a pool end at known times. Before the last of them ends, somebody must log in; so
the question is whether a login can still be expected to succeed:

- an account must be able to log in before then (the predicate of selection itself says who may,
  and when those that rest may again);
- logins at the site must work before then. Failures in a row since the last success have two
  explanations: chance, which is as likely as the share of logins that failed right after a success,
  to the power of their number; or an outage. An outage that has lasted some time lasts as long
  again with even odds: past `t` it lasts another `x` with chance t / (t + x) (Gott, "Implications
  of the Copernican principle", Nature 363, 1993). So a short failure hours before the last token
  ends alarms nobody, and the same failure two minutes before it does.

`services/forecast_replay.py` holds this against histories and counts misses and false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from apps.tokens.errors import Blame
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
LOOK_BACK: Final = timedelta(days=1)
MOST_LOGINS: Final = 200
# Before anything is known: the chance that a failure begins an outage, and half a failure more in
# five logins more.
OUTAGE_BEFORE: Final = 0.1
FAILED_BEFORE: Final = 0.5
LOGINS_BEFORE: Final = 5.0
# An outage began a little before somebody noticed.
NOTICED_AFTER: Final = timedelta(minutes=2)
NEEDED_CHANCE: Final = 0.4
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
    """All that a forecast needs. `logins` are (when it ended, whether it gave a token).

    Those that failed for a wrong password are not among them: they are in `able_from`.
    """

    accounts: tuple[AccountFacts, ...]
    logins: tuple[tuple[datetime, bool], ...]
    breaker_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`exhausted_in_min` is None where no end is in sight, 0 where it has come.

    `login_chance` is the chance that logins work before the last token ends.

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
    chance = login_chance(pool.logins, at=at, by=end)
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


def login_chance(logins: Sequence[tuple[datetime, bool]], *, at: datetime, by: datetime) -> float:
    """Return the chance that logins work at some time until `by`, from 0 to 1."""
    recent = sorted(login for login in logins if at - LOOK_BACK < login[0] <= at)
    good_at = max((n for n, (_, good) in enumerate(recent) if good), default=-1)
    failed = [ended for ended, _ in recent[good_at + 1 :]]
    if not failed:
        return 1.0
    by_chance = _fails_after_success([good for _, good in recent[: good_at + 1]]) ** len(failed)
    outage = OUTAGE_BEFORE / (OUTAGE_BEFORE + (1 - OUTAGE_BEFORE) * by_chance)
    lasted = failed[-1] - failed[0] + NOTICED_AFTER
    more = max(timedelta(), by - failed[-1])
    return 1.0 - outage * (lasted / (lasted + more))


def _fails_after_success(goods: Sequence[bool]) -> float:
    """Return the share of logins that failed though the one before had succeeded.

    Of the failures of an outage only the first one counts: the others say nothing about chance.
    """
    after_success = [good for before, good in pairwise([True, *goods]) if before]
    failed = after_success.count(False) + FAILED_BEFORE
    return failed / (len(after_success) + LOGINS_BEFORE)


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
    accounts = Account.objects.filter(site=site).only(*selection.COLUMNS)
    judged = selection.judge(accounts, site=site, at=at, limits=AdmissionLimits.current())
    tokens = StoredToken.objects.usable(at=at).filter(account__site=site).order_by()
    ends = tokens.values_list("account", "usable_until", "idle_until")
    usable = {pk: min(end, idle) if idle else end for pk, end, idle in ends}
    logins = (
        LoginAttempt.objects.filter(
            site=site, started_at__gt=at - LOOK_BACK, finished_at__isnull=False
        )
        .exclude(outcome__in=[Outcome.OPEN, Outcome.SUPERSEDED])
        .exclude(blame=Blame.CREDENTIALS)
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


def _able_from(found: selection.Judged, at: datetime) -> datetime | None:
    # One that is logging in right now counts among the able: its login is in the chance.
    return at if found.why_not is None else found.why_not.until


def _without_end(found: Forecast, reason: str) -> Forecast:
    values = {name: getattr(found, name) for name in Forecast.__dataclass_fields__}
    return Forecast(**values | {"exhausted_in_min": None, "reason": reason})
