"""What must hold after any run. Each check takes the facts and yields one sentence a violation.

The lab's figures are the outside view; the rows are held to them and to each other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.chaos.facts import Arrival, AttemptRow, Facts

# The lab notices a closed connection, and two clocks are compared, within this.
SLACK_S: Final = 0.25
# How far the wall clock and the monotonic one may drift apart during a run.
CLOCKS_S: Final = 0.05
# The grace after an attempt's deadline, and a few sweeps on a busy machine.
LATEST_CLOSE_S: Final = 30.0
IN_DOUBT_RESENDS: Final = 1
# Ends of a login whose worker did not take in what the site had said.
DEAF: Final = frozenset({"lease_lost", "login_timeout", "network_error", "worker_failed"})
BELIEVED: Final = frozenset({"succeeded", "failed"})

Check = Callable[[Facts], Iterator[str]]


def violations(facts: Facts) -> list[str]:
    """Return everything that is wrong, by the name of its check."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check(facts)]


def limits_held_at_the_sites(facts: Facts) -> Iterator[str]:
    """The lab never counted more logins at once than a limit allows."""
    scopes = {"": facts.counts["all"], **facts.counts["sites"]}
    for name, limit in facts.limits.items():
        seen = scopes[name]["concurrent_max"]
        if seen > limit:
            yield f"{seen} logins at once at {name or 'all sites'}, limit {limit}"
    for site, counts in facts.counts["sites"].items():
        for account, own in counts["accounts"].items():
            if own["concurrent_max"] > 1:
                yield f"{own['concurrent_max']} logins at once of {account} at {site}"


def limits_held_in_the_rows(facts: Facts) -> Iterator[str]:
    """The permits, open attempts, were never more than a limit at any admission."""
    for name, limit in facts.limits.items():
        most = _most_at_once(a for a in facts.attempts if name in ("", a.site))
        if most > limit:
            yield f"{most} permits at once for {name or 'all sites'}, limit {limit}"
    by_account = defaultdict(list)
    for attempt in facts.attempts:
        by_account[attempt.account].append(attempt)
    for account, own in by_account.items():
        if (most := _most_at_once(own)) > 1:
            yield f"{most} permits at once for {account}"


def permits_outlast_their_logins(facts: Facts) -> Iterator[str]:
    """While the site works on a login its permit is kept: also for a killed or stopped worker."""
    rows = _rows(facts)
    for seen in facts.arrivals:
        row = rows.get(seen.attempt)
        if row is None:
            yield f"a login arrived at {seen.site} for no attempt we know"
        elif row.finished_s is not None and (seen.end_s or 1e12) > row.finished_s + SLACK_S:
            late_s = (seen.end_s or 1e12) - row.finished_s
            yield f"attempt {row.id} ({row.outcome}) ended {late_s:.2f} s before the site had"


def secrets_are_recorded_before_they_leave(facts: Facts) -> Iterator[str]:
    """Every login that arrived was recorded as sent, and before."""
    rows = _rows(facts)
    for seen in facts.arrivals:
        row = rows.get(seen.attempt)
        if row is not None and (row.sent_s is None or row.sent_s > seen.start_s + CLOCKS_S):
            yield f"attempt {row.id} sent a secret that was not recorded before"


def nothing_is_sent_after_a_lost_lease(facts: Facts) -> Iterator[str]:
    """A worker that was away for longer than its lease sends nothing more for what it held."""
    rows = _rows(facts)
    for away in facts.stopped:
        for seen in facts.arrivals:
            row = rows.get(seen.attempt)
            if row is None or row.owner != away.owner or row.started_s > away.stopped_s:
                continue
            if seen.start_s > away.continued_s:
                after_s = seen.start_s - away.continued_s
                yield f"attempt {row.id} sent a request {after_s:.3f} s after its worker came back"


def no_rejected_secret_is_repeated(facts: Facts) -> Iterator[str]:
    """What a site has called wrong, to a worker that lived to hear it, it never sees again."""
    rows = _rows(facts)
    for (account, _), sends in _by_secret(facts).items():
        rejected_s: float | None = None
        for seen in sends:
            row = rows.get(seen.attempt)
            if rejected_s is not None and row is not None and row.started_s > rejected_s:
                yield f"attempt {row.id} repeated a rejected secret of {account}"
            if row is not None and seen.outcome == "wrong_password" and _was_heard(seen, row):
                rejected_s = row.finished_s
            elif seen.outcome == "ok":
                rejected_s = None
    for site, counts in facts.counts["sites"].items():
        if n := counts["refresh_replays"]:
            yield f"{n} used refresh tokens sent again at {site}"


def blind_resends_are_recorded(facts: Facts) -> Iterator[str]:
    """An unproven secret whose fate is unknown is sent again only on record, and once more at
    most if that fate stays unknown.
    """
    rows = _rows(facts)
    for (account, _), sends in _by_secret(facts).items():
        unheard = 0
        for row, heard in _attempts_of(sends, rows):
            if unheard and not row.resend_in_doubt and not _was_proven(row, rows):
                yield f"attempt {row.id} repeated a secret of {account} in doubt, unrecorded"
            unheard = 0 if _was_proven(row, rows) else unheard + (not heard)
        if unheard > 1 + IN_DOUBT_RESENDS:
            yield f"a secret of {account} in doubt was sent {unheard} times without an answer"


def old_worlds_are_refused(facts: Facts) -> Iterator[str]:
    """No result counts that began before an edit or a revocation and ended after it."""
    for change in facts.changes:
        for row in facts.attempts:
            late = row.finished_s is not None and row.finished_s > change.done_s
            old = row.fence < change.fence
            if row.account == change.account and late and old and row.outcome in BELIEVED:
                yield f"attempt {row.id} ({row.outcome}) is from before a {change.kind}"
        if change.kind == "revoke" and facts.tokens.get(change.account, 1e12) < change.begun_s:
            yield f"the token of {change.account} from before its revocation is in circulation"


def everything_ends(facts: Facts) -> Iterator[str]:
    """No permit, no request and no process is left over."""
    for row in facts.attempts:
        if row.finished_s is None:
            yield f"attempt {row.id} is still open"
        elif row.finished_s > row.deadline_s + LATEST_CLOSE_S:
            late_s = row.finished_s - row.deadline_s
            yield f"attempt {row.id} ended {late_s:.1f} s past its deadline"
    for request, status in facts.live_requests.items():
        yield f"request {request} is still {status}"
    for name in facts.leftovers:
        yield f"a process is left: {name}"


def history_is_exact(facts: Facts) -> Iterator[str]:
    """One history row for each ended request."""
    for request, n in facts.history.items():
        if n != 1:
            yield f"request {request} has {n} history rows"


def repairs_are_recorded(facts: Facts) -> Iterator[str]:
    """Every lost login, dead worker and ended cluster has its record, once."""
    lost = {row.id for row in facts.attempts if row.outcome == "lost"}
    recorded = facts.repairs.get("lost_login", {})
    for attempt in lost ^ recorded.keys():
        yield f"lost login {attempt}: row and record differ"
    for attempt, n in recorded.items():
        if n != 1:
            yield f"lost login {attempt} is recorded {n} times"
    died = sum(how == "died" for how in facts.dead_owners.values())
    told = sum(facts.repairs.get("dead_worker", {}).values())
    if died != told:
        yield f"{died} workers died, {told} are recorded"
    for killed in facts.killed:
        if facts.dead_owners.get(killed.owner) != "died":
            yield f"worker {killed.owner} was killed and is not known as dead"
    ended = sum(sum(facts.repairs.get(k, {}).values()) for k in ("cluster_ended", "cluster_wedged"))
    if ended < facts.clusters_killed:
        yield f"{facts.clusters_killed} clusters were ended, {ended} are recorded"


def callers_get_answers(facts: Facts) -> Iterator[str]:
    """Every caller is answered, and never with a fault of ours."""
    for answer, n in facts.answers.items():
        if answer.startswith(("500", "no answer")):
            yield f"{n} callers got {answer}"


def enough_happened(facts: Facts) -> Iterator[str]:
    """A run that did little proves little."""
    made = len({seen.attempt for seen in facts.arrivals})
    if made < facts.logins_wanted:
        yield f"only {made} of {facts.logins_wanted} logins were made"
    for blow in facts.blows_missed:
        yield f"not done in time: {blow}"


CHECKS: Final[tuple[Check, ...]] = (
    limits_held_at_the_sites,
    limits_held_in_the_rows,
    permits_outlast_their_logins,
    secrets_are_recorded_before_they_leave,
    nothing_is_sent_after_a_lost_lease,
    no_rejected_secret_is_repeated,
    blind_resends_are_recorded,
    old_worlds_are_refused,
    everything_ends,
    history_is_exact,
    repairs_are_recorded,
    callers_get_answers,
    enough_happened,
)


def _rows(facts: Facts) -> dict[str, AttemptRow]:
    return {row.id: row for row in facts.attempts}


def _most_at_once(attempts: Iterable[AttemptRow]) -> int:
    """Return the most attempts that were open at one moment; an end frees its moment."""
    changes: list[tuple[float, int]] = []
    for row in attempts:
        changes += [(row.started_s, 1), (row.finished_s or 1e12, -1)]
    now = most = 0
    for _, step in sorted(changes):
        now += step
        most = max(most, now)
    return most


def _by_secret(facts: Facts) -> dict[tuple[str, str], list[Arrival]]:
    found = defaultdict(list)
    for seen in sorted(facts.arrivals, key=lambda one: one.start_s):
        if seen.secret:
            found[seen.account, seen.secret].append(seen)
    return found


def _attempts_of(
    sends: list[Arrival], rows: dict[str, AttemptRow]
) -> Iterator[tuple[AttemptRow, bool]]:
    """Yield the attempts that sent a secret, in order, and whether the fate of it was heard."""
    order = list(dict.fromkeys(one.attempt for one in sends if one.attempt in rows))
    unheard = Counter(one.attempt for one in sends if not one.heard)
    for attempt in order:
        yield rows[attempt], not unheard[attempt]


def _was_heard(seen: Arrival, row: AttemptRow) -> bool:
    """Say whether the worker took in the site's answer, or was stopped or killed before."""
    believed = row.outcome in BELIEVED or row.outcome == "superseded"
    return seen.heard and believed and row.error_code not in DEAF


def _was_proven(row: AttemptRow, rows: dict[str, AttemptRow]) -> bool:
    """Say whether this attempt's secret had worked before it began."""
    return any(
        other.outcome == "succeeded"
        and other.fingerprint == row.fingerprint
        and other.finished_s is not None
        and other.finished_s <= row.started_s
        for other in rows.values()
    )
