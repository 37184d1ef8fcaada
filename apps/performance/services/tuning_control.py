"""The rule that finds a site's limit by itself: pure, one completed login at a time.

A site takes so many logins at once and no more; what is more it refuses, or slows down. Nobody
knows the number, and it changes. So now and then one more (or one less) is tried, for as long as
the logins need that tell the difference. Rules of networks (AIMD, Vegas, Gradient2) see thousands
of round trips a second; with 1 to 10 slow logins they had a quarter to all of them rejected.

How much a level brings is read from the logins that began at it (Little's law: logins in flight
divided by the time of one, times the share that succeeded). So a queue that was empty for a while
does not look like a slow site.

Two ways of trying. *Climbing*, from a start or after the site has begun to take what it refused
before: every handful of logins one more, compared with all that is known from below, kept unless
it looks worse. *Settled*, once one more was refused or twice brought nothing: rarely, and judged
strictly. How rarely, follows from what a refused try has cost.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Self

# Completions at a level before it may be judged, and after which a doubt is decided anyway.
QUICK: Final = 5
QUICK_MAX: Final = 24
WINDOW: Final = 12
WINDOW_MAX: Final = 48
RISE: Final = 0.05
# The longest wait between tries, in completions at the limit. Where a try was refused, its cost
# says how long: this share of the logins may be refused, and this share of the throughput may be
# lost while the site rests. The first try after a refusal comes sooner, for it may have been
# chance; and the lower the limit, the more one more could bring.
WAIT_MAX: Final = 256
REFUSED_SHARE: Final = 0.0085
LOST_SHARE: Final = 0.006
LOST_SHARE_FIRST: Final = 0.05
LOW: Final = 3
SLOWED: Final = 1.25
HALVE_ABOVE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One ended login: how many were in flight when it began, itself too, and what it told.

    `rejected` means that the site refused it for being one too many, `rests_s` for how long it is
    left alone after that.
    """

    concurrency: int
    took_s: float
    ok: bool = True
    rejected: bool = False
    rests_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between which limits the rule may move; both included."""

    lowest: int
    highest: int

    def clamp(self, limit: int) -> int:
        """Return the nearest limit within the bounds."""
        return max(self.lowest, min(self.highest, limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The last logins that began at one level: how many (48 at most), their time, their luck."""

    n: int = 0
    mean_s: float = 0.0
    variance: float = 0.0
    good: float = 0.0

    def add(self, took_s: float, ok: bool) -> "Level":
        """Return the level with one more login; older ones fade."""
        n = min(self.n + 1, WINDOW_MAX)
        off = took_s - self.mean_s
        return Level(
            n=n,
            mean_s=self.mean_s + off / n,
            variance=(1 - 1 / n) * (self.variance + off * off / n),
            good=self.good + (ok - self.good) / n,
        )

    def join(self, other: "Level") -> "Level":
        """Return what both together tell."""
        n = self.n + other.n
        mine, its = self.n / n, other.n / n
        apart = self.mean_s - other.mean_s
        return Level(
            n=n,
            mean_s=mine * self.mean_s + its * other.mean_s,
            variance=mine * self.variance + its * other.variance + mine * its * apart * apart,
            good=mine * self.good + its * other.good,
        )

    def like(self, other: "Level") -> bool:
        """Say whether the two could be of one kind: within two standard errors of each other."""
        apart = math.log(self.mean_s / other.mean_s) if self.mean_s and other.mean_s else math.inf
        return abs(apart) <= 2 * math.sqrt(self.doubt + other.doubt)

    def brings(self, limit: int) -> float:
        """Return successful logins a second with `limit` in flight."""
        return limit * self.good / self.mean_s if self.mean_s > 0 else 0.0

    @property
    def doubt(self) -> float:
        """Return the squared relative standard error of the mean time and the luck together."""
        if not self.n or self.mean_s <= 0 or self.good <= 0:
            return 1.0
        return (self.variance / self.mean_s**2 + (1 - self.good) / self.good) / self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the rule remembers of a site.

    `since` counts completions at the limit since it was set, `probe_of` is the level a try goes
    back to, `failed` the tries in a row that did. `refused` and `rests_s` are what the last one
    cost: refusals, and the seconds that the site rests after one.
    """

    limit: int
    since: int = 0
    probe_of: int | None = None
    last_down: bool = False
    climbing: bool = True
    failed: int = 0
    refused: int = 0
    rests_s: float = 0.0
    levels: Mapping[int, Level] = field(default_factory=dict)

    @property
    def wait(self) -> int:
        """Return how many completions at the limit come before the next try."""
        if self.climbing:
            return WINDOW if self.failed else 0
        if not self.refused:
            return min(WAIT_MAX, WINDOW << min(self.failed, 8))
        level = self.levels.get(self.limit)
        # While the site rests, what is in flight goes on for half a login's time.
        rounds = max(0.0, self.rests_s / level.mean_s - 0.5) if level and level.mean_s else 0.0
        lost = rounds * self.limit
        share = LOST_SHARE * (1 + LOW / self.limit)
        longest = max(self.refused / REFUSED_SHARE, lost / share)
        soonest = max(WINDOW << min(2 * self.failed, 32), lost / LOST_SHARE_FIRST)
        return math.ceil(min(soonest, longest))

    def as_data(self) -> dict[str, Any]:
        """Return plain data for a JSON column."""
        return asdict(self) | {"levels": {str(n): asdict(one) for n, one in self.levels.items()}}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Undo `as_data`; what an older version kept besides is left out."""
        levels = {int(n): Level(**one) for n, one in data["levels"].items()}
        names = {one.name for one in fields(cls)} & set(data)
        return cls(**{name: data[name] for name in names} | {"levels": levels})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The state after a completion, and why the limit is another one now ('' where it is not)."""

    state: State
    why: str = ""


def advance(state: State, seen: Completion, *, bounds: Bounds) -> Step:
    """Return the state after one more completed login.

    A login that began above the present limit is of an earlier one and tells nothing any more,
    but what the try has cost if it was refused.
    """
    if seen.concurrency > state.limit:
        late = seen.rejected and state.probe_of is None
        return Step(state=_cost(state, seen, before=state.refused) if late else state)
    if seen.rejected:
        return _rejected(state, seen, bounds)
    if seen.concurrency < state.limit:
        return Step(state=state)  # fewer were wanted than allowed: no word on the limit
    since = state.since + 1
    if state.probe_of is not None and since <= state.limit:
        # Of those that began together the quickest end first.
        return Step(state=replace(state, since=since))
    level = state.levels.get(state.limit, Level()).add(seen.took_s, seen.ok)
    state = replace(state, since=since, levels={**state.levels, state.limit: level})
    if state.probe_of is not None:
        return _judge(state, state.probe_of)
    if level.n >= _least(state) and state.since >= state.wait:
        return _probe(state, bounds)
    return Step(state=state)


def moved(state: State, limit: int) -> State:
    """Return the state after somebody else has set the limit: what was known counts on."""
    return State(limit=limit, levels=state.levels)


def _rejected(state: State, seen: Completion, bounds: Bounds) -> Step:
    if state.probe_of is not None and state.probe_of < state.limit:
        # One more was too many, and only that: what stood before is known to work.
        why = f"{state.limit} at once were too many for the site"
        return _back(_cost(state, seen, before=0), state.probe_of, why)
    half = state.limit // 2 if state.limit > HALVE_ABOVE else state.limit - 1
    limit = bounds.clamp(half)
    if limit == state.limit:
        return Step(state=state)
    # What was known of the levels is of a site that takes less now. The way back up is short.
    lower = State(limit=limit, levels={n: one for n, one in state.levels.items() if n < limit})
    return Step(state=lower, why=f"the site rejected a login with {state.limit} at once")


def _cost(state: State, seen: Completion, *, before: int) -> State:
    rests_s = max(seen.rests_s, state.rests_s if before else 0.0)
    return replace(state, refused=before + 1, rests_s=rests_s)


def _probe(state: State, bounds: Bounds) -> Step:
    down = _slowed(state, state.limit) and not state.last_down and state.limit > bounds.lowest
    limit = state.limit - 1 if down else state.limit + 1
    if bounds.clamp(limit) != limit:
        return Step(state=replace(state, since=0, last_down=False))
    levels = {n: one for n, one in state.levels.items() if n != limit}
    probing = replace(
        state, limit=limit, since=0, probe_of=state.limit, last_down=down, levels=levels
    )
    return Step(state=probing, why=f"trying whether {limit} at once bring {_wanted(down)}")


def _judge(state: State, probe_of: int) -> Step:
    low, high = sorted((state.limit, probe_of))
    below, above = _known(state, low), state.levels.get(high, Level())
    tried = state.levels[state.limit].n
    if tried < _least(state):
        return Step(state=state)
    least, more = below.brings(low), above.brings(high)
    rise = math.log(more / least) if least and more else math.inf if more else -math.inf
    doubt = math.sqrt(below.doubt + above.doubt)
    enough = rise - _needed(state, low)
    if tried < (QUICK_MAX if state.climbing else WINDOW_MAX) and (
        -2 * doubt < enough < 0 if state.climbing else abs(enough) < doubt
    ):
        return Step(state=state)
    # Where the numbers leave it open and logins are slow, fewer at once do no harm.
    margin = doubt if _slowed(state, high) else -doubt / 2 if state.climbing else 0.0
    if (enough >= margin) != (state.limit == high):
        brought = "no more" if state.limit > probe_of else "less"
        return _back(
            replace(state, refused=0), probe_of, f"{state.limit} at once brought {brought}"
        )
    # Go on in the same direction at once: what is known of this level is fresh.
    kept = State(
        limit=state.limit, levels=state.levels, climbing=state.climbing or state.refused > 0
    )
    return Step(state=kept)


def _needed(state: State, low: int) -> float:
    """Return the rise, as a logarithm, that one more than `low` must bring.

    At a perfect site it brings 1/low; half of that tells such a site from one that is full. A
    settled rule takes 5 %, or half of what a perfect site would bring where that is less.
    """
    half = 0.5 / low
    return math.log1p(half if state.climbing else min(RISE, half))


def _known(state: State, low: int) -> Level:
    """Return what is known of a level; while climbing, with those below that are like it."""
    known = state.levels.get(low, Level())
    for n in range(low - 1, 0, -1) if state.climbing else ():
        lower = state.levels.get(n)
        if lower is None or not lower.like(known):
            break
        known = known.join(lower)
    return known


def _back(state: State, limit: int, why: str) -> Step:
    failed = state.failed + 1
    climbing = state.climbing and not state.refused and failed < 2
    kept = replace(state, limit=limit, probe_of=None, since=0, failed=failed, climbing=climbing)
    return Step(state=kept, why=why)


def _least(state: State) -> int:
    return QUICK if state.climbing else WINDOW


def _slowed(state: State, limit: int) -> bool:
    """Say whether logins at this level take longer than they did with fewest at once."""
    fewest = Level()
    for n in sorted(n for n in state.levels if n < limit):
        fewest = fewest.join(state.levels[n])
        if fewest.n >= WINDOW:
            return state.levels[limit].mean_s > SLOWED * fewest.mean_s
    return False


def _wanted(down: bool) -> str:
    return "as much" if down else "more"
