"""A site whose capacity only the simulator knows, with more demand than it can serve.

Virtual time, fixed seeds. Over its capacity it refuses (`rejects`) or slows everybody down
(`slows`: the capacity is shared). The rule hears of completions four times a second, as from the
supervisor.
"""

import math
import random
from dataclasses import dataclass

from apps.performance.services.tuning_control import Bounds, Completion, State, advance

MEAN_S = 10.0
REFUSAL_S = 0.3
HEAR_EVERY_S = 0.25


@dataclass
class Result:
    done: int
    rejected: int
    oracle: float
    limits: list

    @property
    def share(self):
        return self.done / self.oracle

    @property
    def rejection_rate(self):
        return self.rejected / (self.done + self.rejected)


def run(  # noqa: C901 - one loop of events, easier to follow in one piece
    phases,
    *,
    mode="rejects",
    seed=1,
    cv=0.3,
    mean_s=MEAN_S,
    rest_s=0.0,
    start=2,
    bounds=None,
    control=advance,
):
    """Run phases of (capacity, oracle completions); return what was reached of the oracle's.

    The oracle knows the capacity and keeps it busy from the first second on; nothing of the way
    up from `start` is left out. After a refusal no login begins for `rest_s`.
    """
    bounds = bounds or Bounds(lowest=1, highest=16)
    random_ = random.Random(seed)
    sigma = math.sqrt(math.log1p(cv * cv))
    state, now, done, rejected, rest_until = State(limit=start), 0.0, 0, 0, 0.0
    flying, heard, number, limits = [], [], 0, []
    end, hear_at = 0.0, math.inf
    for capacity, completions in phases:
        end += completions * mean_s / capacity
        while True:
            while len(flying) < state.limit and now >= rest_until:
                number += 1
                over = mode == "rejects" and sum(not one[4] for one in flying) >= capacity
                work = mean_s * random_.lognormvariate(-sigma * sigma / 2, sigma)
                # [work left, number, began, concurrency, refused]
                flying.append([REFUSAL_S if over else work, number, now, len(flying) + 1, over])
            speed = 1.0
            if mode == "slows" and len(flying) > capacity:
                speed = capacity / len(flying)
            first = min(flying, default=None)
            wait_s = first[0] / (1.0 if first[4] else speed) if first else math.inf
            at = min(now + wait_s, hear_at, end)
            if now < rest_until:
                at = min(at, rest_until)
            for one in flying:
                one[0] -= (at - now) * (1.0 if one[4] else speed)
            now = at
            for one in [one for one in flying if one[0] <= 1e-9]:
                flying.remove(one)
                refused = one[4]
                heard.append(
                    Completion(
                        concurrency=one[3],
                        took_s=now - one[2],
                        ok=not refused,
                        rejected=refused,
                        rests_s=rest_s if refused else 0.0,
                    )
                )
                done += not refused
                rejected += refused
                if refused:
                    rest_until = now + rest_s
            if heard and hear_at == math.inf:
                hear_at = math.ceil(now / HEAR_EVERY_S) * HEAR_EVERY_S
            if now >= hear_at:
                for completion in heard:
                    state = control(state, completion, bounds=bounds).state
                heard, hear_at = [], math.inf
            if now >= end:
                limits.append(state.limit)
                break
    return Result(done, rejected, sum(n for _, n in phases), limits)
