"""Tuning: what the rule reaches of the possible at sites of hidden capacity."""

from tests.performance.tuning.hidden_site import run

HALF_A_DAY_IN_LOGINS = 4_320
SEEDS = (1, 2, 3)


def main():
    print(f"{'site':<34} {'reached':>16} {'refused':>16}  ends at")
    for mode in ("rejects", "slows"):
        for capacity in (1, 2, 3, 5, 10):
            _row(f"{mode}, capacity {capacity}", [(capacity, 10_000)], mode=mode)
    for capacities in ((1, 10), (10, 1), (2, 10, 4, 1, 7)):
        phases = [(capacity, capacity * HALF_A_DAY_IN_LOGINS) for capacity in capacities]
        _row(f"rejects, {' → '.join(map(str, capacities))}", phases)
    for capacity in (1, 5, 10):
        _row(f"rejects and rests 30 s, {capacity}", [(capacity, 10_000)], rest_s=30.0)


def _row(name, phases, **options):
    found = [run(phases, seed=seed, **options) for seed in SEEDS]
    shares = [one.share for one in found]
    refused = [one.rejection_rate for one in found]
    print(
        f"{name:<34} {min(shares):>7.1%} … {max(shares):>6.1%}"
        f" {min(refused):>7.2%} … {max(refused):>6.2%}  {found[0].limits}",
        flush=True,
    )
