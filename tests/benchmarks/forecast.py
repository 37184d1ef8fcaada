"""Forecast: alarms right and wrong on made-up days of several kinds, against two plainer rules.

What the alert that ships would have done: 15 minutes ahead, bad for a minute, good for two.
"""

from datetime import timedelta

import django

DAYS = 60


def main():
    django.setup()
    from apps.performance.services import forecast_replay
    from tests.performance.health import days

    rules = {
        "by expiry": forecast_replay.by_expiry,
        "five failures": five_in_a_row,
        "ours": forecast_replay.ours,
    }
    print(f"{DAYS} days of each kind; right: of the alarms; foreseen: of the exhaustions\n")
    print(f"{'days':<16}{'exhaustions':>12}" + "".join(f"{name:>30}" for name in rules))
    print(f"{'':<28}" + f"{'alarms  right  foreseen  lead':>30}" * len(rules))
    for kind in days.KINDS:
        histories = [days.generated(seed, kind) for seed in range(DAYS)]
        scores = [
            forecast_replay.score(histories, forecaster=forecaster) for forecaster in rules.values()
        ]
        row = "".join(_figures(score) for score in scores)
        print(f"{kind:<16}{scores[0].exhaustions:>12}{row}", flush=True)


def _figures(score):
    lead = "-" if score.lead_min is None else f"{score.lead_min:.0f} min"
    return f"{score.alarms:>10}{_share(score.precision):>6}{_share(score.recall):>8}{lead:>6}"


def _share(value):
    return "-" if value is None else f"{value:.0%}"


def five_in_a_row(pool, at):
    """The rule of before: the weighted share of the last hour's logins falls below 45 %."""
    able = [a.able_from for a in pool.accounts if a.able_from is not None]
    ends = [a.usable_until for a in pool.accounts if a.usable_until and a.usable_until > at]
    end = max(ends, default=at)
    recent = sorted((one for one in pool.logins if one[0] > at - timedelta(hours=1)), reverse=True)
    weights = [(0.8**age, good) for age, (_, good) in enumerate(recent[:20])]
    chance = (sum(weight for weight, good in weights if good) + 1) / (
        sum(weight for weight, _ in weights) + 1
    )
    late = not able or min(able) > end + timedelta(minutes=5)
    return (end - at).total_seconds() / 60 if late or chance < 0.45 else None
