"""Statistics over any window: exact sums, percentiles within 2.5 %."""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from apps.common.errors import ValidationFailed
from apps.history.contracts import (
    Figures,
    Group,
    Grouping,
    HistoryStatus,
    Statistics,
    Window,
)
from apps.history.scale import percentiles
from apps.history.selectors import breakdowns, sums
from apps.history.selectors.cover import filled, vouched
from apps.history.selectors.snapshot import snapshot
from apps.history.selectors.sums import Key, Row


def statistics(window: Window) -> Statistics:
    """Answer for the records that finished in the window.

    Always equal to aggregating the rows that are in the table at this moment, whatever is being
    recorded, cleaned up or restored meanwhile. Raises ValidationFailed for an empty window.
    """
    if window.start.tzinfo is None or window.end.tzinfo is None or window.start >= window.end:
        raise ValidationFailed("A window has a start before its end, both with a time zone.")
    with snapshot():
        known = vouched(window.start, window.end)
        part = filled(window, known)
        statuses = breakdowns.by_status(part, known)
        keys = _keys(window)
        names = breakdowns.by_name(part, known, keys) if keys else {}
        total_spread, login_spread = breakdowns.spreads(part, known)
        timed = {
            grouping: breakdowns.by_time(part, known, grouping)
            for grouping in (Grouping.DAY, Grouping.HOUR)
            if grouping in window.groups
        }
    summary = sums.figures(sums.added(statuses.values())) if statuses else Figures()
    return Statistics(
        window=window,
        summary=summary,
        total_percentiles=percentiles(
            total_spread, lowest_s=summary.total_s_min, highest_s=summary.total_s_max
        ),
        login_percentiles=percentiles(
            login_spread, lowest_s=summary.login_s_min, highest_s=summary.login_s_max
        ),
        groups=dict(_named_groups(window, statuses, names))
        | {
            grouping: tuple(Group(key=key, figures=sums.figures(row)) for key, row in rows.items())
            for grouping, rows in timed.items()
        },
    )


def _keys(window: Window) -> tuple[str, ...]:
    if Grouping.ACCOUNT in window.groups:
        return ("site", "account")
    return ("site",) if Grouping.SITE in window.groups else ()


def _named_groups(
    window: Window, statuses: Mapping[str, Row], names: Mapping[Key, Row]
) -> Mapping[Grouping, tuple[Group, ...]]:
    """Return each breakdown that was asked for; the largest groups first."""
    groups: dict[Grouping, tuple[Group, ...]] = {}
    if Grouping.STATUS in window.groups:
        groups[Grouping.STATUS] = tuple(
            Group(key=status.value, figures=sums.figures(statuses[status.value]))
            for status in HistoryStatus
            if status.value in statuses
        )
    if Grouping.ACCOUNT in window.groups:
        groups[Grouping.ACCOUNT] = _largest_first(
            Group(key=account, site=site, figures=sums.figures(row))
            for (site, account), row in names.items()
        )
    if Grouping.SITE in window.groups:
        groups[Grouping.SITE] = _largest_first(
            Group(key=site, figures=sums.figures(row))
            for site, row in sums.folded(names, itemgetter(0)).items()
        )
    return groups


def _largest_first(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: (-group.figures.total, group.site, group.key)))
