"""Statistics the slow and obvious way: every row, in Python. What the tests compare with."""

import math
from collections import defaultdict
from datetime import timezone

from apps.history.contracts import Figures, Grouping
from apps.history.models import TokenAcquisitionHistory


def figures(rows) -> Figures:
    total = [row.total_ms for row in rows]
    login = [row.login_ms for row in rows if row.login_ms is not None]
    return Figures(
        total=len(rows),
        success=sum(row.status == "success" for row in rows),
        attempts=sum(row.attempts for row in rows),
        retries=sum(row.retries for row in rows),
        total_s_sum=sum(total) / 1000,
        total_s_min=min(total) / 1000 if total else None,
        total_s_max=max(total) / 1000 if total else None,
        logins=len(login),
        login_s_sum=sum(login) / 1000,
        login_s_min=min(login) / 1000 if login else None,
        login_s_max=max(login) / 1000 if login else None,
    )


def key(row, grouping, zone):
    local = row.finished_at.astimezone(zone)
    if grouping is Grouping.ACCOUNT:
        return row.site, row.account
    if grouping is Grouping.DAY:
        return "", local.date().isoformat()
    if grouping is Grouping.HOUR:
        # At its own offset, because replace(minute=0) would take the one in force by then.
        own = local.astimezone(timezone(local.utcoffset()))
        return "", own.replace(minute=0).isoformat(timespec="minutes")
    return "", getattr(row, grouping.value)


def in_window(window):
    return [
        row
        for row in TokenAcquisitionHistory.objects.all()
        if window.start <= row.finished_at < window.end
        and window.site in ("", row.site)
        and window.account in ("", row.account)
    ]


def groups(rows, grouping, zone) -> dict:
    found = defaultdict(list)
    for row in rows:
        found[key(row, grouping, zone)].append(row)
    return {name: figures(members) for name, members in found.items()}


def nearest_rank(values, share: float) -> float:
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]
