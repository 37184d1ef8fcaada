"""Statistics over any window: exact sums, percentiles within 2.5 %."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from apps.common.errors import ValidationFailed
from apps.history.contracts import (
    Group,
    Grouping,
    HistoryStatus,
    Statistics,
    Window,
)
from apps.history.scale import percentiles
from apps.history.selectors import breakdowns
from apps.history.selectors.breakdowns import Tallies
from apps.history.selectors.cover import vouched
from apps.history.selectors.snapshot import snapshot
from apps.history.selectors.tallies import Tally


def statistics(window: Window) -> Statistics:
    """Answer for the records that finished in the window.

    Always equal to aggregating the rows that are in the table at this moment, whatever is being
    recorded, cleaned up or restored meanwhile. Raises ValidationFailed for an empty window.
    """
    if window.start.tzinfo is None or window.end.tzinfo is None or window.start >= window.end:
        raise ValidationFailed("A window has a start before its end, both with a time zone.")
    keys = _keys(window)
    with snapshot():
        known = vouched(window.start, window.end)
        names = breakdowns.by_name(window, known, keys)
        total_spread, login_spread = breakdowns.spreads(window, known)
        timed = {
            grouping: breakdowns.by_time(window, known, grouping)
            for grouping in (Grouping.DAY, Grouping.HOUR)
            if grouping in window.groups
        }
    summary = _fold(names)[()].figures()
    return Statistics(
        window=window,
        summary=summary,
        total_percentiles=percentiles(
            total_spread, lowest_s=summary.total_s_min, highest_s=summary.total_s_max
        ),
        login_percentiles=percentiles(
            login_spread, lowest_s=summary.login_s_min, highest_s=summary.login_s_max
        ),
        groups=dict(_named_groups(window, names, keys))
        | {
            grouping: tuple(Group(key=key, figures=tally.figures()) for key, tally in rows.items())
            for grouping, rows in timed.items()
        },
    )


def _keys(window: Window) -> tuple[str, ...]:
    if Grouping.ACCOUNT in window.groups:
        return ("site", "account")
    return ("site",) if Grouping.SITE in window.groups else ()


def _named_groups(
    window: Window, names: Tallies, keys: tuple[str, ...]
) -> Mapping[Grouping, tuple[Group, ...]]:
    """Fold the finest rows into each breakdown that was asked for; the largest groups first."""
    groups: dict[Grouping, tuple[Group, ...]] = {}
    if Grouping.STATUS in window.groups:
        by_status = _fold(names, len(keys))
        groups[Grouping.STATUS] = tuple(
            Group(key=status.value, figures=by_status[(status.value,)].figures())
            for status in HistoryStatus
            if (status.value,) in by_status
        )
    # Sites are folded from accounts, which are far fewer than what was read.
    finest = names
    if Grouping.ACCOUNT in window.groups:
        finest = _fold(names, keys.index("site"), keys.index("account"))
        groups[Grouping.ACCOUNT] = _largest_first(
            Group(key=account, site=site, figures=tally.figures())
            for (site, account), tally in finest.items()
        )
    if Grouping.SITE in window.groups:
        groups[Grouping.SITE] = _largest_first(
            Group(key=site, figures=tally.figures())
            for (site,), tally in _fold(finest, keys.index("site")).items()
        )
    return groups


def _fold(names: Tallies, *positions: int) -> Tallies:
    folded: Tallies = defaultdict(Tally)
    for key, tally in names.items():
        folded[tuple(key[position] for position in positions)].add(tally.row())
    return folded


def _largest_first(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: (-group.figures.total, group.site, group.key)))
