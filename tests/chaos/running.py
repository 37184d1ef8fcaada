"""One run from the first process to the verdict."""

import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import OperationalError, close_old_connections

from apps.access.contracts import Grant, Scope
from apps.access.services import issue_key
from apps.tokens.faultlab.client import LabClient
from apps.tokens.models import LoginAttempt, TokenRequest
from tests.chaos import collect
from tests.chaos.blows import Striker
from tests.chaos.callers import Callers
from tests.chaos.clock import lab_offset_s, now_s
from tests.chaos.facts import Facts
from tests.chaos.judge import violations
from tests.chaos.namespaces import namespace
from tests.chaos.plan import Blow, Plan
from tests.chaos.service import Host, Service
from tests.chaos.world import World

HEAL_EVERY_S: Final = 2.0
TELL_EVERY_S: Final = 10.0


@dataclass(slots=True)
class Verdict:
    """What a run came to."""

    violations: list[str]
    facts: Facts
    struck: Counter[Blow] = field(default_factory=Counter)
    took_s: float = 0.0
    healed: int = 0

    def returns_s(self) -> list[float]:
        """Return how long after each kill of a worker its permits were back."""
        ended = {row.id: row.finished_s for row in self.facts.attempts}
        waits = [
            (ended.get(attempt) or now_s()) - killed.at_s
            for killed in self.facts.killed
            for attempt in killed.attempts
        ]
        return sorted(wait for wait in waits if wait > 0)


@dataclass(slots=True)
class Run:
    """The moving parts of a run; `say` prints a line."""

    plan: Plan
    service: Service
    world: World
    callers: Callers
    striker: Striker
    say: Callable[[str], None]
    struck: Counter[Blow] = field(default_factory=Counter)
    begun_s: float = field(default_factory=now_s)
    _struck_s: float = 0.0
    _healed_s: float = 0.0
    _told_s: float = 0.0

    def strike_all(self) -> None:
        """Strike at seeded moments until every blow is done, enough logins made, or time is up."""
        dice = random.Random(self.plan.seed)
        moments = sorted(dice.uniform(1, self.plan.active_s) for _ in self.plan.blows)
        todo = list(zip(moments, self.plan.blows, strict=True))
        while self.passed_s() < self.plan.limit_s:
            self.keep_going()
            done = not todo and self.passed_s() >= self.plan.active_s
            if done and self._logins() >= self.plan.logins:
                break
            due = [one for one in todo if one[0] <= self.passed_s()] if self._rested() else []
            # One that finds nothing to hit now waits; the others go on.
            hit = next((one for one in due if self._try(one[1])), None)
            if hit:
                todo.remove(hit)
                self.struck[hit[1]] += 1
                self._struck_s = now_s()
            time.sleep(0.03)
        missed = [blow for _, blow in todo]
        self.striker.facts.blows_missed = missed if self.plan.every_blow else []
        for blow in missed:
            self.say(f"not done in time: {blow}")

    def settle(self) -> None:
        """Wait until everything has ended by itself, or the time for it is over."""
        self.callers.stop()
        end = now_s() + self.plan.settle_s
        self.striker.undoing.all_now()
        while now_s() < end and (TokenRequest.objects.live().exists() or self._open()):
            self.keep_going()
            time.sleep(0.1)

    def keep_going(self) -> None:
        """Do what the world does meanwhile: undo, restart, heal, tell."""
        self.striker.revive_supervisors()
        if now_s() - self._healed_s > HEAL_EVERY_S:
            self._healed_s = now_s()
            self.world.heal()
        if now_s() - self._told_s > TELL_EVERY_S:
            self._told_s = now_s()
            live = TokenRequest.objects.live().count()
            self.say(
                f"{self.passed_s():5.0f} s  {self._logins()} logins, {self._open()} open,"
                f" {live} requests live, {self.struck.total()} of {len(self.plan.blows)} blows"
            )

    def passed_s(self) -> float:
        return now_s() - self.begun_s

    def _rested(self) -> bool:
        """Blows that waited come one by one: nothing is proven by killing what just started."""
        pause_s = self.plan.active_s / len(self.plan.blows) / 2
        return now_s() - self._struck_s >= pause_s

    def _try(self, blow: Blow) -> bool:
        try:
            return self.striker.strike(blow)
        except OperationalError:  # the rows are locked by somebody who is stopped
            return False

    def _logins(self) -> int:
        return LoginAttempt.objects.exclude(secret_sent_at=None).count()

    def _open(self) -> int:
        return LoginAttempt.objects.filter(outcome="").count()


def execute(plan: Plan, *, lab: LabClient, folder: Path, say: Callable[[str], None]) -> Verdict:
    """Run a plan against the database and Valkey of this process's settings."""
    call_command("migrate", verbosity=0)
    begun_s = now_s()
    world = World(plan, lab)
    world.build()
    offset_s = lab_offset_s(lab)
    facts = Facts(limits=world.limits, logins_wanted=plan.logins)
    with _hosts(plan, lab.url) as hosts:
        service = Service(folder, _environment(folder), hosts)
        callers = Callers(plan, service.url, _key(), world.slugs)
        dice = random.Random(plan.seed + 1)
        redis_url = os.environ["REDIS_URL"]
        striker = Striker(plan, service, world, facts, redis_url, dice)
        try:
            service.start()
            say(f"The service runs; {len(plan.blows)} blows in {plan.active_s:.0f} s.")
            run = Run(plan, service, world, callers, striker, say)
            callers.start()
            run.strike_all()
            say("Now it has to come to rest by itself.")
            run.settle()
        finally:
            callers.stop()
            striker.undoing.all_now()
            facts.leftovers = service.stop()
    close_old_connections()
    collect.read_lab(facts, lab, offset_s=offset_s)
    collect.read_rows(facts)
    facts.changes, facts.answers = world.changes, dict(callers.answers)
    return Verdict(violations(facts), facts, run.struck, now_s() - begun_s, world.healed)


def report(verdict: Verdict) -> str:
    """Return the report as text."""
    facts = verdict.facts
    made = len({seen.attempt for seen in facts.arrivals})
    outcomes = Counter(row.outcome or "open" for row in facts.attempts)
    repairs = {kind: sum(found.values()) for kind, found in facts.repairs.items()}
    most = {site: counts["concurrent_max"] for site, counts in facts.counts["sites"].items()}
    waits = verdict.returns_s()
    lines = [
        f"{made} logins in {verdict.took_s:.0f} s; {verdict.healed} accounts healed by a person.",
        *(f"  {n:4} x {blow}" for blow, n in sorted(verdict.struck.items())),
        f"attempts: {_told(outcomes)}",
        f"answers to callers: {_told(facts.answers)}",
        f"repairs: {_told(repairs)}",
        f"most at once: all {facts.counts['all']['concurrent_max']}, {_told(most)}"
        f" (limits: {_told(facts.limits)})",
        f"in doubt and sent again: {sum(row.resend_in_doubt for row in facts.attempts)}",
    ]
    if waits:
        lines.append(
            f"a killed worker's permit was back after {statistics.median(waits):.1f} s"
            f" (median of {len(waits)}; longest {waits[-1]:.1f} s)"
        )
    lines += [f"VIOLATION {text}" for text in verdict.violations]
    lines.append("Everything held." if not verdict.violations else "It did not hold.")
    return "\n".join(lines)


def _told(values: dict[str, int]) -> str:
    return ", ".join(f"{name or 'all'} {n}" for name, n in sorted(values.items())) or "none"


@contextmanager
def _hosts(plan: Plan, lab_url: str) -> Iterator[list[Host]]:
    if plan.hosts == 1:
        yield [Host("here")]
        return
    urls = [lab_url, os.environ["DATABASE_URL"], os.environ["REDIS_URL"]]
    ports = [port for url in urls if url and (port := urlsplit(url).port)]
    with ExitStack() as stack:
        yield [
            Host(name, stack.enter_context(namespace(name, ports)))
            for name in (f"chaos-{n + 1}" for n in range(plan.hosts))
        ]


def _environment(folder: Path) -> dict[str, str]:
    """Return what all processes are told: short times, few slots, so that many take part."""
    kept = ("DATABASE_URL", "REDIS_URL", "LATCHKEY_CONNECTORS", "DJANGO_SETTINGS_MODULE")
    return {
        **{name: os.environ[name] for name in kept},
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUNBUFFERED": "1",
        "LATCHKEY_DATA_DIR": str(folder / "data"),
        "LATCHKEY_POLL_S": "0.1",
        "LATCHKEY_WORKERS": "4",
        "LATCHKEY_SLOTS": "3",
        "LATCHKEY_DRAIN_S": "10",
        "LATCHKEY_RATE_LIMIT_PER_MINUTE": "100000",
        "LATCHKEY_TEST_CACHE_BACKGROUND": "1",
    }


def _key() -> str:
    user, _ = get_user_model().objects.get_or_create(username="chaos")
    scopes = (Scope.TOKENS_READ,)
    _row, text = issue_key(
        user_id=user.pk, name="chaos", scopes=scopes, grants=(Grant(site="*"),), issuer=None
    )
    return text
