"""The automatic mode: feeds ended logins to the rule, and sets the limit it finds.

Every supervisor runs it. A row's version decides which of two that read the same logins counts.
"""

from datetime import datetime, timedelta
from typing import Final

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
# A login may have waited for a person; none that began longer ago ends now. The index of a
# site's logins is by their start.
LONGEST: Final = timedelta(hours=2)


def adapt_all() -> tuple[LimitChange, ...]:
    """Adapt the limits of all sites whose bounds say so, then the one over all sites.

    Returns the changes that were made.
    """
    rows = list(TuningBounds.objects.filter(automatic=True).select_related("site"))
    made = [adapt_site(row.site, _bounds(row)) for row in rows if row.site is not None]
    made += [_adapt_over_all(_bounds(row)) for row in rows if row.site is None]
    return tuple(change for change in made if change is not None)


def adapt_site(site: Site, bounds: Bounds) -> LimitChange | None:
    """Take in what has ended at a site since the last look; return the change, if any."""
    effective = site.max_concurrent or AdmissionLimits.current().max_concurrent_per_site
    row = TuningState.objects.filter(site=site).first() or _begin(site, effective)
    state = State.from_data(row.memory)
    if state.limit != effective:
        state = moved(state, effective)
    inside = bounds.clamp(effective)
    why = ""
    if inside != effective:
        state, why = moved(state, inside), f"the bounds allow {bounds.lowest} to {bounds.highest}"
    ended = _ended(site, after=row.read_to)
    # Read after the logins: what asks for a rest is written together with its end.
    rests_until = Site.objects.values_list("cooldown_until", flat=True).get(pk=site.pk)
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


def _ended(site: Site, *, after: datetime) -> list[LoginAttempt]:
    """Return what ended since, in order. `finished_at` is read under the lock that all ends share,
    so nothing can appear before what was read."""
    rows = LoginAttempt.objects.filter(
        site=site,
        started_at__gt=after - LONGEST,
        finished_at__gt=after,
        outcome__in=[Outcome.SUCCEEDED, Outcome.FAILED],
        used_refresh_token=False,
    )
    return list(rows.order_by("finished_at")[:AT_ONCE])


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
