"""Days of made-up sites, of several kinds: the same kind and seed give the same day."""

import random
from datetime import UTC, datetime, timedelta

from apps.performance.services.forecast_replay import REST, STEP, History, Login

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
MIXED = {
    "lives": [15, 30, 60],
    "accounts": (1, 5),
    "flaky": [0.02, 0.05, 0.15, 0.3],
    "outages": [3, 10, 40, 90],
    "outages_a_day": 2,
    "passwords_end": (120, 1_200),
}
KINDS = {
    "mixed": MIXED,
    "calm": MIXED | {"flaky": [0.02, 0.05], "outages_a_day": 0, "passwords_end": (9_000, 9_001)},
    "flaky": MIXED | {"flaky": [0.3, 0.4], "outages_a_day": 0, "passwords_end": (9_000, 9_001)},
    "short outages": MIXED | {"outages": [2, 5, 8], "outages_a_day": 5},
    "long outages": MIXED | {"outages": [60, 120], "passwords_end": (9_000, 9_001)},
    "passwords": MIXED | {"outages_a_day": 0, "passwords_end": (60, 500)},
    "large pool": MIXED | {"accounts": (10, 20), "lives": [60, 120]},
    "one account": MIXED | {"accounts": (1, 1)},
}


def generated(seed, kind="mixed"):
    """Return a day: flaky logins, some outages, sometimes passwords that end."""
    about, dice = KINDS[kind], random.Random(seed)
    life = timedelta(minutes=dice.choice(about["lives"]))
    accounts = tuple(f"account-{number}" for number in range(dice.randint(*about["accounts"])))
    flaky = dice.choice(about["flaky"])
    until = START + timedelta(hours=10)
    begins = (
        START + timedelta(minutes=dice.randint(60, 540)) for _ in range(about["outages_a_day"])
    )
    outages = [
        (begin, begin + timedelta(minutes=dice.choice(about["outages"]))) for begin in begins
    ]
    passwords_end = START + timedelta(minutes=dice.randint(*about["passwords_end"]))
    logins = []
    good_until = dict.fromkeys(accounts, START)
    rest_until = {name: START + STEP * number * 3 for number, name in enumerate(accounts)}
    blocked = set()
    at = START
    while at < until:
        for name in accounts:
            due = good_until[name] - life / 4 <= at and rest_until[name] <= at
            if name in blocked or not due:
                continue
            down = any(begin <= at < end for begin, end in outages)
            blocks = not down and at >= passwords_end
            good = not down and not blocks and dice.random() >= flaky
            logins.append(Login(at=at, account=name, good=good, blocks=blocks))
            if good:
                good_until[name] = at + life
            else:
                rest_until[name] = at + REST
                blocked |= {name} if blocks else set()
        at += STEP
    return History(
        name=f"{kind} {seed}",
        accounts=accounts,
        life=life,
        logins=tuple(logins),
        since=START,
        until=until,
    )
