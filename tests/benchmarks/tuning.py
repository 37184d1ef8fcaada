"""Tuning: what the rule reaches of the possible at sites of hidden capacity.

The oracle knows the capacity and keeps it busy from the first second; the way up counts.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from tests.performance.tuning.hidden_site import run

HALF_A_DAY_IN_LOGINS = 4_320
SEEDS = range(10)
SITES = (
    ("refuses", {"mode": "rejects"}),
    ("refuses, rests 30 s", {"mode": "rejects", "rest_s": 30.0}),
    ("slows down", {"mode": "slows"}),
)
STEPS = ((1, 10), (10, 1), (5, 10), (2, 10, 4, 1, 7))


def main():
    print(
        f"10 seeds each: the worst, the mean, the most refused\n{'site':<44} reached      refused"
    )
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as processes:
        for name, options in SITES:
            for capacity in range(1, 11):
                _row(processes, f"{name}, {capacity}", [(capacity, 10_000)], options)
            for capacities in STEPS:
                phases = [(capacity, capacity * HALF_A_DAY_IN_LOGINS) for capacity in capacities]
                _row(processes, f"{name}, {' → '.join(map(str, capacities))}", phases, options)
        print("outside the goal: logins that vary more, or are short beside the rest")
        refuses, rests, slows = (options for _, options in SITES)
        for capacity in (3, 10):
            for spread in (0.6, 1.0):
                for name, options in (("refuses", refuses), ("slows down", slows)):
                    options = options | {"cv": spread}
                    phases = [(capacity, 10_000)]
                    _row(processes, f"{name}, ± {spread:.0%}, {capacity}", phases, options)
            quick = rests | {"mean_s": 2.0}
            for logins in (10_000, 50_000):
                name = f"logins of 2 s, rests 30 s, {logins} logins, {capacity}"
                _row(processes, name, [(capacity, logins)], quick)


def _row(processes, name, phases, options):
    found = list(processes.map(_one, [(phases, options, seed) for seed in SEEDS]))
    shares = [one.share for one in found]
    refused = max(one.rejection_rate for one in found)
    mean = sum(shares) / len(shares)
    print(f"{name:<44} {min(shares):>6.1%} {mean:>6.1%} {refused:>6.2%}", flush=True)


def _one(job):
    phases, options, seed = job
    return run(phases, seed=seed, **options)
