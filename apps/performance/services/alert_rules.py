"""What a rule says about a value. Pure arithmetic, without rows.

Everything is asked of one number, the excess: how bad a value is, as a multiple of how bad it may
be. Over 1 it is an alert, over 1.5 the alert is one step more severe, and back under 1 less the
rule's margin it is good again. How the excess is counted:

- above a threshold: value / threshold.
- a share below its threshold, where 100 % is best: the shortfall from 100 over the shortfall that
  is allowed. "Success < 80 %" and "failures > 20 %" are the same rule, so both are a step worse
  past 30 % of failures. (The threshold divided by 1.5 would mean 47 %.)
- anything else below its threshold: threshold / value.
"""

import math
from dataclasses import dataclass
from typing import Final

from apps.performance.models.alerts import AlertMetric, AlertRule, Direction, Severity

RAISE_PAST: Final = 1.5
# Stands in rows for "never", over all that can be measured: no database and no JSON takes infinity.
NEVER: Final = 1e20
SHARES: Final = frozenset(
    {AlertMetric.SUCCESS_RATE, AlertMetric.CACHE_HIT_RATE, AlertMetric.TIMEOUT_RATE}
)
# Measured of the installation as a whole; a rule over one site would look at nothing.
WHOLE_ONLY: Final = frozenset(
    {
        AlertMetric.MEMORY,
        AlertMetric.CPU,
        AlertMetric.CACHE_HIT_RATE,
        AlertMetric.STORE_P95_MS,
        AlertMetric.API_P95_MS,
    }
)
# Nobody's rest changes these. The others are made of what callers and logins do: while every site
# is closed each token ends and each read of one misses, and that is as it should be.
NEVER_ASLEEP: Final = frozenset({AlertMetric.MEMORY, AlertMetric.CPU, AlertMetric.API_P95_MS})
SITES_ONLY: Final = frozenset({AlertMetric.POOL_LASTS_MIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A metric's value, in the unit its name says, and how many observations it is made of.

    `value` is None where nothing was observed; infinite means "never", for what is a time.
    """

    value: float | None
    observations: int = 0


NOTHING: Final = Reading(value=None)


def shown(value: float | None) -> str:
    """Return a value as people read it: four digits or all whole ones, `never`, – for none."""
    if value is None:
        return "–"
    if value >= NEVER:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def excess(rule: AlertRule, value: float) -> float:
    """Return how bad the value is as a multiple of what the rule allows; infinite past any."""
    if rule.direction == Direction.ABOVE:
        return _ratio(value, rule.threshold)
    if rule.metric in SHARES:
        return _ratio(100.0 - value, 100.0 - rule.threshold)
    if math.isinf(value):
        return 0.0
    return _ratio(rule.threshold, value)


def is_bad(rule: AlertRule, value: float) -> bool:
    """Say whether the value is on the bad side of the threshold; the threshold itself is not."""
    return value > rule.threshold if rule.direction == Direction.ABOVE else value < rule.threshold


def is_good(rule: AlertRule, value: float) -> bool:
    """Say whether the value is good enough to end an alert: inside the threshold by the margin."""
    return not is_bad(rule, value) and excess(rule, value) <= 1.0 - rule.clear_margin


def severity_of(rule: AlertRule, value: float) -> Severity:
    """Return the severity of an alert about this value: past 1.5 times the threshold, a step up."""
    step = 1 if excess(rule, value) > RAISE_PAST else 0
    return Severity(min(rule.severity + step, Severity.HIGH))


def scope_problem(metric: str, site: str) -> str:
    """Return why this metric cannot be watched in this scope, or nothing."""
    if site and metric in WHOLE_ONLY:
        return "This is measured of the whole installation: leave the site empty."
    if not site and metric in SITES_ONLY:
        return "This is measured of a site: name one, or * for each."
    return ""


def _ratio(part: float, whole: float) -> float:
    if whole > 0:
        return part / whole
    return math.inf if part > 0 else 0.0
