"""The rule that finds a site's limit by itself: pure, one completed login at a time.

A site takes so many logins at once and no more; what is more it refuses, or slows down. Nobody
knows the number, and it changes. So now and then one more (or one less) is tried, for as long as
the logins need that tell the difference. Rules of networks (AIMD, Vegas, Gradient2) see thousands
of round trips a second; with 1 to 10 slow logins they had a quarter to all of them rejected.

How much a level brings is read from the logins that began at it (Little's law: logins in flight
divided by the time of one, times the share that succeeded). So a queue that was empty for a while
does not look like a slow site.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

# Completions at a level before it may be judged, and after which a doubt is decided anyway.
WINDOW: Final = 12
WINDOW_MAX: Final = 48
RISE: Final = 0.05
# The longest wait between probes, in completions at the limit, and in rounds of the limit. A
# refused probe costs a rejection or more, and the site may ask for a rest: this bounds both.
WAIT_MAX: Final = 256
WAIT_MAX_ROUNDS: Final = 128
SLOWED: Final = 1.25
HALVE_ABOVE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One ended login: how many were in flight when it began, itself too, and what it told.

    `rejected` means that the site refused it for being one too many.
    """

    concurrency: int
    took_s: float
    ok: bool = True
    rejected: bool = False


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
    """What the rule remembers of a site. `probe_of` is the level a probe goes back to."""

    limit: int
    wait: int = WINDOW
    since: int = 0
    probe_of: int | None = None
    last_down: bool = False
    levels: Mapping[int, Level] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for a JSON column."""
        return asdict(self) | {"levels": {str(n): asdict(one) for n, one in self.levels.items()}}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Undo `as_data`."""
        levels = {int(n): Level(**one) for n, one in data["levels"].items()}
        return cls(**{**data, "levels": levels})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The state after a completion, and why the limit is another one now ('' where it is not)."""

    state: State
    why: str = ""


def advance(state: State, seen: Completion, *, bounds: Bounds) -> Step:
    """Return the state after one more completed login.

    A login that began above the present limit is of an earlier one and tells nothing any more.
    """
    if seen.concurrency > state.limit:
        return Step(state=state)
    if seen.rejected:
        return _rejected(state, bounds)
    if seen.concurrency < state.limit:
        return Step(state=state)  # fewer were wanted than allowed: no word on the limit
    state = replace(state, since=state.since + 1)
    if state.probe_of is not None and state.since <= state.limit:
        return Step(state=state)  # of those that began together the quickest end first
    level = state.levels.get(state.limit, Level()).add(seen.took_s, seen.ok)
    state = replace(state, levels={**state.levels, state.limit: level})
    if state.probe_of is not None:
        return _judge(state, state.probe_of)
    if level.n >= WINDOW and state.since >= state.wait:
        return _probe(state, bounds)
    return Step(state=state)


def moved(state: State, limit: int) -> State:
    """Return the state after somebody else has set the limit: what was known counts on."""
    return replace(state, limit=limit, wait=WINDOW, since=0, probe_of=None)


def _rejected(state: State, bounds: Bounds) -> Step:
    if state.probe_of is not None and state.probe_of < state.limit:
        # One more was too many, and only that: what stood before is known to work.
        why = f"{state.limit} at once were too many for the site"
        return _back(state, state.probe_of, why)
    half = state.limit // 2 if state.limit > HALVE_ABOVE else state.limit - 1
    limit = bounds.clamp(half)
    if limit == state.limit:
        return Step(state=state)
    # What was known of the levels is of a site that takes less now. The way back up is short.
    lower = State(limit=limit, levels={n: one for n, one in state.levels.items() if n < limit})
    return Step(state=lower, why=f"the site rejected a login with {state.limit} at once")


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
    below, above = state.levels.get(low, Level()), state.levels.get(high, Level())
    tried = state.levels[state.limit]
    if tried.n < WINDOW:
        return Step(state=state)
    least, more = below.brings(low), above.brings(high)
    rise = math.log(more / least) if least and more else math.inf if more else -math.inf
    # One more at a perfect site brings 1/low more: with many at once that is less than 5 %.
    needed = math.log1p(min(RISE, 0.5 / low))
    doubt = math.sqrt(below.doubt + above.doubt)
    if abs(rise - needed) < doubt and tried.n < WINDOW_MAX:
        return Step(state=state)
    # Where the numbers leave it open and logins are slow, fewer at once do no harm.
    margin = doubt / 2 if _slowed(state, high) else 0.0
    keep = (rise >= needed + margin) == (state.limit == high)
    if not keep:
        brought = "no more" if state.limit > probe_of else "less"
        return _back(state, probe_of, f"{state.limit} at once brought {brought}")
    # Go on in the same direction at once: what is known of this level is fresh.
    return Step(state=replace(state, probe_of=None, since=0, wait=0, last_down=False))


def _back(state: State, limit: int, why: str) -> Step:
    longest = max(WAIT_MAX, WAIT_MAX_ROUNDS * limit)
    wait = min(longest, max(state.wait, WINDOW) * 2)
    kept = replace(state, limit=limit, probe_of=None, since=0, wait=wait)
    return Step(state=kept, why=why)


def _slowed(state: State, limit: int) -> bool:
    """Say whether logins at this level take longer than they did with fewer at once."""
    lower = [one.mean_s for n, one in state.levels.items() if n < limit and one.n >= WINDOW]
    return bool(lower) and state.levels[limit].mean_s > SLOWED * min(lower)


def _wanted(down: bool) -> str:
    return "as much" if down else "more"
