"""The life of an alert: opened, made worse, acknowledged, resolved; and the notices of each step.

Every step is one conditional write, and its notices are rows of the same transaction: whoever
wins the write tells everybody, once, also if the process dies right after.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from django.db import IntegrityError, transaction

from apps.common.errors import BusinessRuleViolated
from apps.performance.models import Alert, AlertRule
from apps.performance.models.alerts import Severity
from apps.performance.services import notification

log = structlog.stdlib.get_logger(__name__)

OPENED: Final = "opened"
RAISED: Final = "raised"
RESOLVED: Final = "resolved"
RECOVERED: Final = "recovered"
NO_DATA: Final = "no_data"
RULE_CHANGED: Final = "rule_changed"
BY_HAND: Final = "by_hand"


class AlertResolved(BusinessRuleViolated):
    """What concerns an open alert was asked of one that is over."""

    code = "alert_resolved"
    default_message = "The alert is resolved already."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A bad value of a rule at a site."""

    rule: AlertRule
    site: str
    value: float
    observations: int
    severity: Severity


def open_or_update(finding: Finding, *, at: datetime) -> Alert | None:
    """Open an alert for the finding, or note it in the one that is open; return it.

    The constraint decides who opens it when several try. None if the open one was resolved just
    now: whoever looks next opens another.
    """
    opened = _open(finding, at=at)
    if opened is not None:
        return opened
    found = Alert.objects.unresolved().filter(rule=finding.rule, site=finding.site).first()
    if found is not None:
        _update(found, finding, at=at)
    return found


def acknowledge(alert: Alert, *, by: str, at: datetime, note: str = "") -> bool:
    """Note that a person knows; False if somebody had already. Raises AlertResolved."""
    mine = Alert.objects.unresolved().filter(pk=alert.pk, acknowledged_at=None)
    if mine.update(acknowledged_at=at, acknowledged_by=by, acknowledged_note=note):
        return True
    if not Alert.objects.unresolved().filter(pk=alert.pk).exists():
        raise AlertResolved
    return False


def resolve(alert: Alert, *, at: datetime, reason: str, by: str = "") -> bool:
    """End an alert and tell who was told of it; False if it had ended already."""
    with transaction.atomic():
        mine = Alert.objects.unresolved().filter(pk=alert.pk)
        if not mine.update(resolved_at=at, resolved_by=by, resolved_reason=reason):
            return False
        alert.refresh_from_db()
        notification.tell(alert, RESOLVED, at=at)
    log.info("alert_resolved", rule=alert.rule_name, site=alert.site, reason=reason, by=by)
    return True


def resolve_all_of(rule: AlertRule, *, at: datetime, by: str = "") -> int:
    """End the open alerts of a rule that is switched off, changed in kind or about to go."""
    rows = Alert.objects.unresolved().filter(rule=rule)
    return sum(resolve(row, at=at, reason=RULE_CHANGED, by=by) for row in rows)


def _open(finding: Finding, *, at: datetime) -> Alert | None:
    rule = finding.rule
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                rule=rule,
                rule_name=rule.name,
                metric=rule.metric,
                direction=rule.direction,
                threshold=rule.threshold,
                site=finding.site,
                severity=finding.severity,
                value=finding.value,
                opened_value=finding.value,
                observations=finding.observations,
                opened_at=at,
                seen_at=at,
            )
            notification.tell(alert, OPENED, at=at)
    except IntegrityError:
        return None
    log.info("alert_opened", rule=rule.name, site=finding.site, value=finding.value)
    return alert


def _update(alert: Alert, finding: Finding, *, at: datetime) -> None:
    rows = Alert.objects.unresolved().filter(pk=alert.pk)
    rows.update(value=finding.value, observations=finding.observations, seen_at=at)
    if finding.severity <= alert.severity:
        return
    with transaction.atomic():
        # Somebody has said "I know" of something less bad than this.
        worse = rows.filter(severity__lt=finding.severity).update(
            severity=finding.severity,
            acknowledged_at=None,
            acknowledged_by="",
            acknowledged_note="",
        )
        if worse:
            alert.refresh_from_db()
            notification.tell(alert, RAISED, at=at)
