"""A site of the lab, and the lab as the set of its sites."""

import copy
import random
import re
from collections.abc import Mapping
from typing import Any, Final

from apps.tokens.faultlab.attempts import Attempt, AttemptLog, fingerprint
from apps.tokens.faultlab.behaviour import Behaviour
from apps.tokens.faultlab.counters import Counts, Tally
from apps.tokens.faultlab.faults import FaultPlan
from apps.tokens.faultlab.http import Exchange
from apps.tokens.faultlab.judge import Judge, Outcome, Presented
from apps.tokens.faultlab.parsing import BehaviourError, parse
from apps.tokens.faultlab.sessions import SessionStore

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class Site:
    """One login site: how it behaves, what it remembers, what was done to it."""

    def __init__(self, name: str, everything: Counts) -> None:
        self.name = name
        self.raw: dict[str, Any] = {}
        self.behaviour = Behaviour()
        self.tally = Tally(everything)
        self.log = AttemptLog()
        self.sessions = SessionStore()
        self.judge = Judge(self.tally)
        self.plan = FaultPlan((), {}, seed=1)
        self._jitter = random.Random(1)  # noqa: S311  # repeatable on purpose, guards nothing

    def behave(self, raw: Any) -> None:
        """Replace the behaviour; counts, sessions and lockouts stay. Raises BehaviourError.

        The list of faults starts anew where a key that shapes it has changed.
        """
        parsed = parse(raw)
        shaped_by = ("faults", "fault_mix", "seed")
        replan = [raw.get(key) for key in shaped_by] != [self.raw.get(key) for key in shaped_by]
        self.raw, self.behaviour = copy.deepcopy(raw), parsed
        if replan:
            self.restart()

    def restart(self) -> None:
        """Start the faults and the jitter from their beginning."""
        now = self.behaviour
        self.plan = FaultPlan(now.faults, now.fault_mix, seed=now.seed)
        self._jitter = random.Random(now.seed)  # noqa: S311

    def latency_s(self) -> float:
        """Return how long the next login takes."""
        jitter_s = self.behaviour.latency_jitter_s
        return self.behaviour.latency_s + (self._jitter.uniform(0, jitter_s) if jitter_s else 0.0)

    def begin(self, flow: str, exchange: Exchange) -> Attempt:
        """Count a login whose request has begun to arrive."""
        for scope in self.tally.scopes():
            scope.start()
        return self.log.begin(flow, exchange.header(b"x-lab-note"), exchange.drop)

    def identify(self, attempt: Attempt, presented: Presented) -> None:
        """Count a login for its account, and the secret it brought."""
        attempt.account = presented.account
        attempt.secret = fingerprint(presented.secret)
        self.tally.account(presented.account).start()
        known = self.behaviour.account(presented.account)
        wrong = known is None or known.password != presented.secret
        self.tally.secret(presented.account, attempt.secret, wrong=wrong)

    def end(self, attempt: Attempt) -> None:
        """Count the end of a login."""
        self.log.end(attempt)
        succeeded = attempt.outcome == Outcome.OK
        for scope in self.tally.scopes(attempt.account):
            scope.end(succeeded=succeeded, disconnected=attempt.disconnected)
        if attempt.disconnected or not attempt.secret:
            return
        if succeeded or attempt.outcome == Outcome.WRONG_PASSWORD:
            self.tally.told(attempt.account, attempt.secret, wrong=not succeeded)

    def drop_logins(self) -> int:
        """Cut every login that is running; returns how many."""
        running = list(self.log.running)
        for attempt in running:
            attempt.drop()
        return len(running)


class Lab:
    """All sites and the counts over them. One event loop, so nothing here needs a lock."""

    def __init__(self, preloaded: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._preloaded = dict(preloaded or {})
        self.sites: dict[str, Site] = {}
        self.everything = Counts()
        self.reset()

    def put(self, name: str, raw: Any) -> Site:
        """Make a site or replace its behaviour. Raises BehaviourError."""
        if not NAME.fullmatch(name):
            raise BehaviourError([f"A site's name must match {NAME.pattern}."])
        site = self.sites.get(name) or Site(name, self.everything)
        site.behave(raw)
        site.restart()
        self.sites[name] = site
        return site

    def delete(self, name: str) -> int:
        """Remove a site and cut its running logins; the counts over all sites keep its share."""
        return self.sites.pop(name).drop_logins()

    def reset(self) -> int:
        """Remove everything, cut all running logins, and make the preloaded sites again.

        What was running ends in the old counts, never in the new. Returns how many were cut.
        """
        dropped = sum(site.drop_logins() for site in self.sites.values())
        self.sites = {}
        self.everything = Counts()
        for name, raw in self._preloaded.items():
            self.put(name, dict(raw))
        return dropped

    def counts(self) -> dict[str, Any]:
        """Return `{"all": counts, "sites": {name: counts and accounts}}`."""
        sites = {name: site.tally.as_dict() for name, site in sorted(self.sites.items())}
        return {"all": self.everything.as_dict(), "sites": sites}
