"""The automatic mode: feeds ended logins to the rule, and sets the limit it finds.

Every supervisor runs it. A row's version decides which of two that read the same logins counts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F

from apps.common.clock import database_now
from apps.performance.models.tuning import LimitChange, TuningBounds, TuningState
from apps.performance.services import tuning
from apps.performance.services.tuning_control import Bounds, Completion, State, advance, moved
from apps.tokens.errors import Blame, RateLimited
from apps.tokens.models import AdmissionLimits, LoginAttempt, Site
from apps.tokens.models.attempts import Outcome

# A site that refuses is to be left alone soon: each turn late may cost another refusal.
EVERY_S: Final = 0.25
AT_ONCE: Final = 500
# Sites in one query: SQLite takes 500 parts.
TOGETHER: Final = 100
# A login may have waited for a person; none that began longer ago ends now. The index of a
# site's logins is by their start.
LONGEST: Final = timedelta(hours=2)


def adapt_all() -> tuple[LimitChange, ...]:
    """Adapt the limits of all sites whose bounds say so, then the one over all sites.

    Returns the changes that were made.
    """
    rows = list(TuningBounds.objects.filter(automatic=True).select_related("site"))
    made = adapt_sites({row.site: _bounds(row) for row in rows if row.site is not None})
    over_all = [_adapt_over_all(_bounds(row)) for row in rows if row.site is None]
    return (*made, *(change for change in over_all if change is not None))


def adapt_sites(wanted: Mapping[Site, Bounds]) -> list[LimitChange]:
    """Take in what has ended at these sites since the last look; return the changes.

    While nothing ends it costs three queries for a hundred sites, as for one.
    """
    if not wanted:
        return []
    general = AdmissionLimits.current().max_concurrent_per_site
    rows = {row.site_id: row for row in TuningState.objects.filter(site__in=wanted)}
    ended: dict[UUID, list[LoginAttempt]] = defaultdict(list)
    for attempt in _ended(list(rows.values())):
        ended[attempt.site_id].append(attempt)
    # Read after the logins: what asks for a rest is written together with its end.
    resting = Site.objects.filter(pk__in=ended).values_list("pk", "cooldown_until")
    rests = dict(resting) if ended else {}
    made = []
    for site, bounds in wanted.items():
        effective = site.max_concurrent or general
        row = rows.get(site.pk) or _begin(site, effective)
        made.append(_adapt(row, site, bounds, effective, ended[site.pk], rests.get(site.pk)))
    return [change for change in made if change is not None]


def _adapt(
    row: TuningState,
    site: Site,
    bounds: Bounds,
    effective: int,
    ended: list[LoginAttempt],
    rests_until: datetime | None,
) -> LimitChange | None:
    state = State.from_data(row.memory)
    if state.limit != effective:
        state = moved(state, effective)
    inside = bounds.clamp(effective)
    why = ""
    if inside != effective:
        state, why = moved(state, inside), f"the bounds allow {bounds.lowest} to {bounds.highest}"
    for attempt in ended:
        seen = _completion(attempt, state, rests_until=rests_until)
        if seen is not None:
            step = advance(state, seen, bounds=bounds)
            state, why = step.state, step.why or why
    if not ended and state.limit == effective:
        return None
    read_to = max((one.finished_at for one in ended if one.finished_at), default=row.read_to)
    return _save(row, state, site, read_to=read_to, why=why)


def _begin(site: Site, limit: int) -> TuningState:
    """Begin with what ends from now on."""
    memory = State(limit=limit).as_data()
    row, _ = TuningState.objects.get_or_create(
        site=site, defaults={"read_to": database_now(), "memory": memory}
    )
    return row


def _save(
    row: TuningState, state: State, site: Site, *, read_to: datetime, why: str
) -> LimitChange | None:
    """Keep what was learned and set the limit, both or neither."""
    with transaction.atomic():
        mine = TuningState.objects.filter(pk=row.pk, version=row.version).update(
            version=F("version") + 1, memory=state.as_data(), read_to=read_to
        )
        if not mine:
            return None  # another host has taken these logins in
        general = AdmissionLimits.current().max_concurrent_per_site
        if state.limit == (site.max_concurrent or general):
            return None
        change = tuning.change_limit(
            site=site.slug,
            before=site.max_concurrent,
            after=state.limit,
            reason=why or "the rule went back to what is known to work",
            numbers={"levels": state.as_data()["levels"], "wait": state.wait},
            by="",
            automatic=True,
        )
        if change is None:
            transaction.set_rollback(True)  # a person was faster: look again with their number
        return change


def _ended(rows: Sequence[TuningState]) -> list[LoginAttempt]:
    """Return what ended since each site was read to, the logins of a site in order.

    `finished_at` is read under the lock that all ends share, so nothing can appear before what
    was read. One part for each site: joined to what was read, or as alternatives, PostgreSQL or
    SQLite would go through all logins there are.
    """
    told = LoginAttempt.objects.filter(
        outcome__in=[Outcome.SUCCEEDED, Outcome.FAILED], used_refresh_token=False
    ).order_by()
    parts = [
        told.filter(
            site=row.site_id,
            started_at__gt=row.read_to - LONGEST,
            finished_at__gt=row.read_to,
        )
        for row in rows
    ]
    found: list[LoginAttempt] = []
    for first in range(0, len(parts), TOGETHER):
        one, *others = parts[first : first + TOGETHER]
        found += one.union(*others, all=True).order_by("finished_at")[:AT_ONCE]
    return found


def _completion(
    attempt: LoginAttempt, state: State, *, rests_until: datetime | None
) -> Completion | None:
    """Return what a login tells the rule; None for what is no word on the site's capacity."""
    ok = attempt.outcome == Outcome.SUCCEEDED
    if attempt.finished_at is None:
        return None
    if not ok and attempt.blame not in (Blame.SITE, Blame.NETWORK):
        return None
    # While one more is tried, an overloaded answer is taken for a refusal as well.
    trying = state.probe_of is not None and attempt.concurrency_at_start == state.limit
    refused = attempt.error_code == RateLimited.code
    refused = refused or (trying and attempt.blame == Blame.SITE)
    rests = rests_until - attempt.finished_at if refused and rests_until else timedelta()
    return Completion(
        concurrency=attempt.concurrency_at_start,
        took_s=(attempt.finished_at - attempt.started_at).total_seconds(),
        ok=ok,
        rejected=refused,
        rests_s=max(0.0, rests.total_seconds()),
    )


def _adapt_over_all(bounds: Bounds) -> LimitChange | None:
    """Let the sites that adapt by themselves not stand in each other's way.

    Only ever raised, but where the bounds say otherwise: it guards this installation, not a site,
    and the sites that do not adapt need their part of it.
    """
    limits = AdmissionLimits.current()
    memories = TuningState.objects.filter(site__enabled=True, site__tuning_bounds__automatic=True)
    together = sum(int(memory["limit"]) for memory in memories.values_list("memory", flat=True))
    present = limits.max_concurrent
    wanted = bounds.clamp(max(present, together, limits.reserved_for_interactive + 1))
    if not together or wanted == present:
        return None
    return tuning.change_limit(
        site="",
        before=present,
        after=wanted,
        reason=f"the sites that adapt by themselves may take {together} together",
        by="",
        automatic=True,
    )


def _bounds(row: TuningBounds) -> Bounds:
    return Bounds(lowest=row.lowest, highest=row.highest)
