"""The words of a notice, fixed when it is written: a late one still tells what was true then."""

from datetime import datetime
from typing import Any, Final

from apps.performance.models import Alert, NotificationChannel
from apps.performance.models.alerts import AlertMetric, Direction, Severity
from apps.performance.services.alert_rules import shown

_EVENTS: Final = {"opened": "Alert", "raised": "Alert got worse", "resolved": "Resolved"}
_REASONS: Final = {
    "recovered": "the value is good again",
    "no_data": "nothing was measured for an hour",
    "rule_changed": "the rule does not apply any more",
    "by_hand": "by hand",
}


def notice_of(alert: Alert, event: str) -> dict[str, Any]:
    """Return title, severity, lines and data of a step in an alert's life, as JSON."""
    severity = Severity(alert.severity).label
    place = alert.site or "all sites"
    side = "over" if alert.direction == Direction.ABOVE else "under"
    lines = [
        ("Severity", str(severity)),
        ("Site", place),
        ("Value", f"{shown(alert.value)} ({side} {alert.threshold:g} is bad)"),
        ("Measured", str(AlertMetric(alert.metric).label)),
        ("Since", f"{alert.opened_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if alert.resolved_at:
        why = _REASONS.get(alert.resolved_reason, alert.resolved_reason)
        who = f"{why} ({alert.resolved_by})" if alert.resolved_by else why
        lines += [("Ended", f"{alert.resolved_at:%Y-%m-%d %H:%M:%S} UTC"), ("Because", who)]
    data = {
        "event": event,
        "alert": alert.pk,
        "rule": alert.rule_name,
        "metric": alert.metric,
        "direction": alert.direction,
        "threshold": alert.threshold,
        "value": alert.value,
        "observations": alert.observations,
        "site": alert.site,
        "severity": severity,
        "opened_at": alert.opened_at.isoformat(),
        "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None,
        "resolved_reason": alert.resolved_reason,
    }
    # One line: it becomes the subject of a mail.
    name = " ".join(alert.rule_name.split())
    title = f"[Latchkey] {_EVENTS[event]}: {name} at {place} ({severity})"
    state = "resolved" if alert.resolved_at else severity
    return {"title": title, "severity": state, "lines": lines, "data": data}


def test_notice(channel: NotificationChannel, *, by: str, at: datetime) -> dict[str, Any]:
    """Return what the "send test" button sends."""
    lines = [
        ("Channel", channel.name),
        ("Sent by", by),
        ("At", f"{at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    data = {"event": "test", "channel": channel.name, "by": by, "at": at.isoformat()}
    return {"title": "[Latchkey] Test notice", "severity": "test", "lines": lines, "data": data}
