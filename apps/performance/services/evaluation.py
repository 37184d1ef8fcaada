"""Holds every rule against what was measured: once a minute, by one process of the cluster."""

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
from django.db.models import Q

from apps.common.clock import database_now
from apps.common.database import is_unavailable
from apps.performance.models import Alert, AlertRule, AlertRuleState, Turn
from apps.performance.models.alerts import EACH_SITE
from apps.performance.services import alert_rules, alerting
from apps.performance.services.alert_rules import Reading
from apps.performance.services.alerting import Finding
from apps.performance.services.evaluation_readings import Readings
from apps.tokens.models import AdmissionLimits, Site
from apps.tokens.services import hours

log = structlog.stdlib.get_logger(__name__)

TURN: Final = "alerts.evaluate"
EVERY: Final = timedelta(seconds=60)
# An alert about which nothing new is known for this long is history, not news.
SILENCE_ENDS_AFTER_S: Final = 3_600.0
WATCHED_WITHIN: Final = 3 * EVERY


class Source(Protocol):
    """Where values come from; `Readings` in service, anything in tests."""

    def read(self, metric: str, *, site: str, window_s: int) -> Reading: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """The sites there are, and which of them may log in now, by slug. Paused: nothing may."""

    known: frozenset[str]
    open: frozenset[str]
    paused: bool

    @classmethod
    def current(cls, *, at: datetime) -> "Scopes":
        """Look at the rows."""
        limits = AdmissionLimits.current()
        sites = list(Site.objects.filter(enabled=True))
        closed = hours.closed_sites(sites, limits, at=at)
        return cls(
            known=frozenset(site.slug for site in sites),
            open=frozenset(site.slug for site in sites if site.pk not in closed),
            paused=limits.paused,
        )

    def of(self, rule: AlertRule) -> list[str]:
        """Return where the rule is to be looked at now; '' is everywhere as one."""
        if rule.site == EACH_SITE:
            return sorted(self.open)
        if rule.site:
            return [rule.site] if rule.site in self.open else []
        # A paused installation, or one whose sites are all closed, has no acquisitions to rate.
        asleep = self.paused or (self.known and not self.open)
        return [] if asleep and rule.metric not in alert_rules.NEVER_ASLEEP else [""]


def evaluate_if_due() -> bool:
    """Evaluate all rules if a minute has passed since anybody did; say whether this call did."""
    at = database_now()
    if not take_turn(TURN, at=at, every=EVERY):
        return False
    evaluate(at=at)
    return True


def take_turn(name: str, *, at: datetime, every: timedelta) -> bool:
    """Take the next turn of something that one process in the cluster does, if it is due.

    One conditional UPDATE. A process that dies in its turn delays the next one by nothing, and so
    does a clock that is put back: a turn further off than `every` was taken before that.
    """
    free = Turn.objects.filter(Q(due_at__lte=at) | Q(due_at__gt=at + every), pk=name)
    # A little early counts as due, or jobs that run every ten seconds would skip to the next one.
    taken = {"due_at": at + every - timedelta(seconds=1), "taken_by": _me()}
    if free.update(**taken):
        return True
    if Turn.objects.filter(pk=name).exists():
        return False
    return Turn.objects.get_or_create(pk=name, defaults=taken)[1]


def evaluate(
    *, at: datetime, make_source: Callable[[datetime, Scopes], Source] | None = None
) -> int:
    """Look at every enabled rule wherever it holds; return how many values were looked at."""
    scopes = Scopes.current(at=at)
    make = make_source or (lambda at, scopes: Readings(at=at, open_sites=scopes.open))
    source = make(at, scopes)
    known = {(row.rule_id, row.site): row for row in AlertRuleState.objects.all()}
    states = []
    for rule in AlertRule.objects.filter(enabled=True):
        for site in scopes.of(rule):
            before = known.get((rule.pk, site)) or AlertRuleState(rule=rule, site=site)
            reading = _look(source, rule, site)
            if reading is not None:
                states.append(_judge(rule, site, reading, before, at=at))
    _save(states)
    _end_what_nobody_watches(scopes, at=at)
    return len(states)


def _look(source: Source, rule: AlertRule, site: str) -> Reading | None:
    """Return the reading; one that cannot be had is logged and keeps no other rule from its own."""
    try:
        return source.read(rule.metric, site=site, window_s=rule.window_s)
    except Exception as error:
        if is_unavailable(error):
            raise
        log.exception("alert_reading_failed", rule=rule.name, site=site)
        return None


def _judge(
    rule: AlertRule, site: str, reading: Reading, state: AlertRuleState, *, at: datetime
) -> AlertRuleState:
    """Move the state on by one reading, and open or end an alert where its time has come."""
    _forget_gaps(state, at=at)
    enough = reading.value is not None and reading.observations >= rule.minimum
    value = reading.value if enough and reading.value is not None else None
    bad = value is not None and alert_rules.is_bad(rule, value)
    good = value is not None and alert_rules.is_good(rule, value)
    state.checked_at, state.observations = at, reading.observations
    state.value = None if reading.value is None else min(reading.value, alert_rules.NEVER)
    state.bad_since = (state.bad_since or at) if bad else None
    state.good_since = (state.good_since or at) if good else None
    state.silent_since = (state.silent_since or at) if value is None else None
    if bad and value is not None and _lasted(state.bad_since, at) >= rule.for_s:
        finding = Finding(
            rule=rule,
            site=site,
            value=min(value, alert_rules.NEVER),
            observations=reading.observations,
            severity=alert_rules.severity_of(rule, value),
        )
        alerting.open_or_update(finding, at=at)
    elif good and _lasted(state.good_since, at) >= rule.clear_for_s:
        _end(rule, site, value, at=at, reason=alerting.RECOVERED)
    elif value is None and _lasted(state.silent_since, at) >= SILENCE_ENDS_AFTER_S:
        _end(rule, site, None, at=at, reason=alerting.NO_DATA)
    return state


def _lasted(since: datetime | None, at: datetime) -> float:
    return (at - since).total_seconds() if since else -1.0


def _forget_gaps(state: AlertRuleState, *, at: datetime) -> None:
    """Nothing is known to have lasted through time that was not watched: closed hours, a stop.

    Nor since a time that is still to come, after a clock was put back.
    """
    known = (state.checked_at, state.bad_since, state.good_since, state.silent_since)
    unwatched = state.checked_at is not None and at - state.checked_at > WATCHED_WITHIN
    if unwatched or any(moment > at for moment in known if moment):
        state.bad_since = state.good_since = state.silent_since = None


def _end(rule: AlertRule, site: str, value: float | None, *, at: datetime, reason: str) -> None:
    for alert in Alert.objects.unresolved().filter(rule=rule, site=site):
        if value is not None:
            Alert.objects.filter(pk=alert.pk).update(
                value=min(value, alert_rules.NEVER), seen_at=at
            )
        alerting.resolve(alert, at=at, reason=reason)


def _save(states: Iterable[AlertRuleState]) -> None:
    AlertRuleState.objects.bulk_create(
        states,
        update_conflicts=True,
        unique_fields=["rule", "site"],
        update_fields=[
            "value", "observations", "checked_at", "bad_since", "good_since", "silent_since",
        ],
    )  # fmt: skip


def _end_what_nobody_watches(scopes: Scopes, *, at: datetime) -> None:
    """End alerts whose rule is off, or no longer about that site; a closed site keeps its own."""
    for alert in Alert.objects.unresolved().select_related("rule"):
        rule = alert.rule
        gone = alert.site not in {"", *scopes.known}
        if rule is None or not rule.enabled or gone or not _covers(rule, alert.site):
            alerting.resolve(alert, at=at, reason=alerting.RULE_CHANGED)


def _covers(rule: AlertRule, site: str) -> bool:
    return bool(site) if rule.site == EACH_SITE else rule.site == site


def begin_anew(rule: AlertRule, *, by: str) -> None:
    """End the alerts of a rule that means something else now or is about to go, and its past."""
    alerting.resolve_all_of(rule, at=database_now(), by=by)
    AlertRuleState.objects.filter(rule=rule).delete()


def _me() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"[:200]
