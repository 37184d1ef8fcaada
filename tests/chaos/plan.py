"""What a run does: sizes, times and a seeded list of blows. The seed fixes the plan, not the
interleaving: that is up to the machine, which is the point.
"""

import random
from dataclasses import dataclass
from enum import StrEnum


class Blow(StrEnum):
    """One thing that is done to the running service."""

    KILL_LOGIN = "kill -9 of a worker in the middle of a login"
    KILL_PART = "kill -9 of an idle worker, the pusher or the monitor"
    KILL_SENTINEL = "kill -9 of a sentinel"
    KILL_MAIN = "kill -9 of a qcluster main"
    KILL_KEEPER = "kill -9 of a keeper"
    KILL_SUPERVISOR = "kill -9 of a supervisor"
    STOP = "SIGSTOP of a worker past its lease, then SIGCONT"
    STOP_LONG = "SIGSTOP of a worker past its login's deadline, then SIGCONT"
    EDIT = "password changed in the middle of a login"
    EDIT_WRONG = "wrong password entered in the middle of a login"
    REVOKE = "token revoked in the middle of a login"
    FLUSH = "Valkey emptied"
    FREEZE = "Valkey stopped for a while"
    CUT = "a host's network cut past its lease"


KILLS = frozenset(blow for blow in Blow if blow.name.startswith("KILL"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Durations in seconds; `logins` is how many the sites must have seen.

    Where not `every_blow` has to be done, one that finds nothing to hit in time is only told: a
    short run on a busy machine makes few logins.
    """

    seed: int
    blows: tuple[Blow, ...]
    logins: int
    active_s: float
    limit_s: float
    settle_s: float
    every_blow: bool = True
    hosts: int = 1
    sites: int = 5
    accounts: int = 4
    lease_s: int = 2
    login_timeout_s: int = 12
    max_concurrent: int = 6
    site_limits: tuple[int, ...] = (2, 1, 3, 2, 2)
    callers: int = 14


def long(seed: int, *, valkey: bool, hosts: int, minutes: float) -> Plan:
    """60 kills and everything else, within `minutes`."""
    blows = [Blow.KILL_LOGIN] * 42 + [Blow.KILL_PART] * 7 + [Blow.KILL_SUPERVISOR] * 2
    blows += [Blow.KILL_SENTINEL, Blow.KILL_MAIN, Blow.KILL_KEEPER] * 3
    blows += [Blow.STOP] * 10 + [Blow.STOP_LONG] * 2
    blows += [Blow.EDIT] * 10 + [Blow.EDIT_WRONG] * 6 + [Blow.REVOKE] * 10
    blows += [Blow.FLUSH, Blow.FREEZE] * 3 if valkey else []
    blows += [Blow.CUT] * 3 if hosts > 1 else []
    limit_s = minutes * 60
    active_s = min(200.0, limit_s * 0.5)
    return Plan(
        seed=seed,
        blows=_shuffled(blows, seed),
        logins=300,
        active_s=active_s,
        limit_s=limit_s,
        settle_s=200,
        hosts=hosts,
    )


def short(seed: int, *, valkey: bool, hosts: int = 1) -> Plan:
    """A cut through everything, for the test suite: half a minute and what it takes to settle."""
    blows = [Blow.KILL_LOGIN] * 6 + [Blow.KILL_KEEPER] + [Blow.STOP] * 2
    blows += [Blow.EDIT] * 3 + [Blow.EDIT_WRONG] * 2 + [Blow.REVOKE] * 3
    blows += [Blow.FLUSH, Blow.FREEZE] if valkey else []
    blows += [Blow.CUT] if hosts > 1 else []
    return Plan(
        seed=seed,
        blows=_shuffled(blows, seed),
        logins=8,
        every_blow=False,
        active_s=18,
        limit_s=50,
        settle_s=45,
        hosts=hosts,
    )


def _shuffled(blows: list[Blow], seed: int) -> tuple[Blow, ...]:
    return tuple(random.Random(seed).sample(blows, len(blows)))
