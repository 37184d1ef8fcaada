"""Admission and completion under any order of events, against a small model.

A rule is an event of the real world; after each one every invariant is checked. `LATCHKEY_MACHINE`
picks the profile: `quick` (the default) or `long`.
"""

import os
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.caching import services as cache
from apps.common.clock import database_now
from apps.history.models import TokenAcquisitionHistory
from apps.tokens.contracts import LoginGrant, TokenMaterial
from apps.tokens.errors import LeaseLost, NoAccountAvailable, SiteDisabled
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    Site,
    SiteBreaker,
    StoredToken,
    TokenRequest,
    WorkerProcess,
)
from apps.tokens.models.breakers import BreakerState
from apps.tokens.models.requests import BACKGROUND, LIVE, Queue, Reason, Status
from apps.tokens.services import (
    accounts,
    acquisition,
    admission,
    breaker,
    completion,
    context,
    hints,
    hours,
    locks,
    outcomes,
    recovery,
    requests,
)
from apps.tokens.services.acquisition import AcquireSpec, Ticket
from apps.tokens.services.owner import Owner
from apps.tokens.services.requests import Asker, Demand
from tests.tokens.core.conftest import core
from tests.tokens.factories import caller, make_account, make_site
from tests.tokens.machine.world import (
    FAILURES,
    IN_DOUBT,
    SITE_FAULTS,
    Flight,
    Knowledge,
    failure,
    let_pass,
    snapshot,
)

__all__ = ["core"]

COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
}
PROFILES = {
    "quick": settings(max_examples=15, stateful_step_count=40, **COMMON),
    "long": settings(max_examples=600, stateful_step_count=80, **COMMON),
}
SITES, NAMES, CALLERS = ("a", "b"), ("u0", "u1"), ("ann", "bob")
WINDOW_S = 600
# Permits in all, at a site, and kept for persons: each is the narrowest in some of them.
ROOMS = ((2, 3, 1), (4, 2, 1), (3, 2, 1), (4, 3, 2), (1, 1, 1), (3, 3, 0))
ALWAYS = [{"from": "00:00", "to": "24:00"}]

sites = st.sampled_from(SITES)
names = st.sampled_from(NAMES)
callers = st.sampled_from(CALLERS)


# Which of several: a number whose range does not depend on how many there are, so that a run can
# be repeated and shortened.
which = st.integers(0, 11)


def pick(n, rows):
    found = list(rows)
    return found[n % len(found)] if found else None


def _a_busy_minute():
    """Make one more rule of this kind: rules are drawn with equal odds, and work is what counts."""

    @rule(
        site=sites,
        times=st.integers(1, 4),
        results=st.lists(st.sampled_from(["", "", *FAILURES]), max_size=3),
        retry=st.booleans(),
    )
    def busy(self, site, times, results, retry):
        self.ask_for_every_account(site)
        for _ in range(times):
            if not self._admit_one():
                break
            self._send(self.flights[-1])
        for n, result in enumerate(results):
            if not self.flights:
                break
            flight = pick(n, self.flights)
            self._fail(flight, result) if result else self._succeed(flight, 600)
        if retry:
            let_pass(61)

    return busy


class Admission(RuleBasedStateMachine):
    """Two sites of two accounts, and everything that can happen to them."""

    def __init__(self):
        super().__init__()
        self.undo = transaction.atomic()
        self.undo.__enter__()
        cache.clear_all()
        self.flights: list[Flight] = []
        self.known: dict[UUID, Knowledge] = {}
        self.claims: dict[UUID, admission.Claim] = {}
        self.versions: Counter[UUID] = Counter()
        self.secrets = 0

    def teardown(self):
        transaction.set_rollback(True)
        self.undo.__exit__(None, None, None)

    @initialize(
        total=st.integers(1, 4),
        site=st.integers(1, 3),
        kept=st.integers(0, 1),
        resends=st.integers(0, 1),
        budget=st.sampled_from([2, 3, 50]),
        site_budget=st.sampled_from([5, 50]),
    )
    def begin(self, total, site, kept, resends, budget, site_budget):
        AdmissionLimits.objects.create(
            pk=1,
            max_concurrent=total,
            max_concurrent_per_site=site,
            reserved_for_interactive=kept,
            in_doubt_resends=resends,
            max_attempts=4,
        )
        for slug in SITES:
            row = make_site(
                slug,
                budget_window_s=WINDOW_S,
                budget_per_account=budget,
                budget_per_site=site_budget,
            )
            for name in NAMES:
                secret = f"{slug}-{name}"
                self.known[make_account(row, name, password=secret).pk] = Knowledge(secret=secret)
        self.owner = Owner.take(cluster="default")

    # Events: demand ------------------------------------------------------------------------

    @rule(site=sites)
    def ask_for_every_account(self, site):
        for name in NAMES:
            self.ask(site=site, name=name, who=CALLERS[0], force=True, ttl=0)

    @rule(
        site=sites,
        name=st.one_of(st.none(), names),
        who=callers,
        force=st.booleans(),
        ttl=st.sampled_from([0, 0, 600]),
    )
    def ask(self, site, name, who, force, ttl):
        spec = AcquireSpec(site=site, account=name, force=force, min_ttl_s=ttl)
        try:
            found = acquisition.obtain(spec, principal=caller(name=who))
        except (NoAccountAvailable, SiteDisabled):
            return
        if isinstance(found, Ticket):
            row = TokenRequest.objects.get(pk=found.request_id)
            assert row.status in LIVE
            assert row.newer_than >= found.newer_than
            assert row.interests.filter(principal_id=who, detached_at=None).exists()
        else:
            assert found.token.remaining_s(at=timezone.now()) > 0

    @rule(site=sites, name=names, queue=st.sampled_from(sorted(BACKGROUND)), who=callers)
    def ask_in_the_background(self, site, name, queue, who):
        account = Account.objects.select_related("site").get(site__slug=site, username=name)
        demand = Demand(site=account.site, account=account, reason=Reason.WARM_UP, queue=queue)
        asker = None if queue == Queue.REFRESH else Asker(kind="batch", id=who, name=who)
        before = self._live(account.site, str(account.pk))
        pk = requests.ask(demand, asker=asker)
        row = TokenRequest.objects.get(pk=pk)
        if before:
            assert pk == before.pk
            assert row.order_at <= before.order_at
            assert row.expires_at >= before.expires_at

    @rule(n=which, who=callers, kind=st.sampled_from(["key", "batch"]))
    def detach(self, n, who, kind):
        row = pick(n, TokenRequest.objects.filter(status__in=LIVE).order_by("created_at"))
        if row is None:
            return
        others = row.interests.filter(detached_at=None).exclude(
            principal_kind=kind, principal_id=who
        )
        had, mine = (
            others.exists(),
            row.interests.filter(principal_kind=kind, principal_id=who, detached_at=None).exists(),
        )
        gone = requests.detach(row, kind=kind, principal_id=who)
        assert not (gone and had)
        if mine and not had and row.status == "queued":
            assert gone
            assert TokenRequest.objects.get(pk=row.pk).status == "cancelled"

    @rule(n=which)
    def requeue(self, n):
        ended = TokenRequest.objects.filter(status__in=["dead", "failed"])
        row = pick(n, ended.order_by("created_at"))
        if row is not None:
            assert requests.requeue(row, asker=None) != row.pk

    # Events: supply ------------------------------------------------------------------------

    @rule(times=st.integers(1, 3), at_once=st.integers(1, 4), sends=st.sampled_from([True, False]))
    def admit(self, times, at_once, sends):
        for _ in range(times):
            for flight in self._admit(at_once):
                if sends:
                    self._send(flight)

    def _admit_one(self):
        return bool(self._admit(1))

    def _admit_all(self):
        while found := self._admit(4):
            for flight in found:
                self._send(flight)

    def _admit(self, most):
        """Claim what can start, `most` at once; check each, and return the flights."""
        before, found = self._permitted(), []
        claims = admission.claim_some(
            owner_id=self.owner.id, queues=hints.queues_of("default"), most=most
        )
        assert len(claims) <= most
        for place, claimed in enumerate(claims):
            attempt = LoginAttempt.objects.select_related("site", "request").get(
                pk=claimed.attempt_id
            )
            later = [one.attempt_id for one in claims[place + 1 :]]
            self._check_admitted(attempt, before, later)
            account = self.known[claimed.account_id]
            assert claimed.credentials.secrets["password"] == account.secret
            flight = Flight(
                attempt_id=claimed.attempt_id,
                request_id=claimed.request_id,
                account_id=claimed.account_id,
                site=claimed.site.slug,
                fence=claimed.fence,
                credential_version=claimed.credential_version,
                secret=account.secret,
            )
            found.append(flight)
            self.claims[claimed.attempt_id] = claimed
        self.flights += found
        return found

    def _permitted(self):
        """Note what holds just before an admission.

        A request whose time comes in between may run: `_check_order` looks at `not_before`.
        """
        rows = TokenRequest.objects.live().filter(status="queued").select_related("site")
        return {
            "heads": {row.pk: (row.site.slug, row.order_at, row.account_id) for row in rows},
            "states": {one.site.slug: one for one in SiteBreaker.objects.select_related("site")},
        }

    def _check_admitted(self, attempt, before, later):
        """Check an admission; `later` are attempts that began after it in the same moment."""
        at, limits = attempt.started_at, AdmissionLimits.current()
        site = attempt.site
        rows = LoginAttempt.objects.filter(outcome="").exclude(request__status="paused")
        rows = rows.exclude(pk__in=later)
        per_site = site.max_concurrent or limits.max_concurrent_per_site
        total, here = rows.count(), rows.filter(site=site).count()
        assert total <= limits.max_concurrent
        assert here <= per_site
        if attempt.request.queue in BACKGROUND:
            kept = limits.reserved_for_interactive
            assert total <= max(1, limits.max_concurrent - kept)
            assert here <= max(1, per_site - kept)
        assert not limits.paused
        assert site.enabled
        assert hours.is_open(site, at=at)
        assert not (site.cooldown_until and site.cooldown_until > at)
        account = Account.objects.get(pk=attempt.account_id)
        assert account.enabled
        assert not account.needs_action
        assert not (account.cooldown_until and account.cooldown_until > at)
        known = self.known[account.pk]
        assert known.may_send(limits.in_doubt_resends), known
        recent = LoginAttempt.objects.filter(
            site=site, started_at__gt=at - timedelta(seconds=WINDOW_S)
        )
        assert recent.count() <= site.budget_per_site
        assert recent.filter(account=account).count() <= site.budget_per_account
        self._check_breaker(attempt, before["states"].get(site.slug), at)
        self._check_order(attempt, before["heads"])

    def _check_breaker(self, attempt, breaker_before, at):
        state = breaker_before.state if breaker_before else BreakerState.CLOSED
        assert state != BreakerState.FORCED_OPEN
        if state in (BreakerState.OPEN, BreakerState.HALF_OPEN):
            assert breaker_before.open_until is None or breaker_before.open_until <= at
            other = LoginAttempt.objects.filter(pk=breaker_before.probe, outcome="")
            assert state == BreakerState.OPEN or not other.exists()
            assert breaker_before.healthy_at
            after = SiteBreaker.objects.get(site=attempt.site)
            assert (after.state, after.probe) == (BreakerState.HALF_OPEN, attempt.pk)

    def _check_order(self, attempt, heads):
        """Whoever was passed over at this site could not have started."""
        _, mine, _ = heads[attempt.request_id]
        limits, at = AdmissionLimits.current(), attempt.started_at
        for pk, (slug, order_at, account_id) in heads.items():
            if slug != attempt.site.slug or order_at >= mine or account_id is None:
                continue
            row = TokenRequest.objects.get(pk=pk)
            if row.status != "queued" or row.queue in BACKGROUND or row.not_before > at:
                continue
            account = Account.objects.get(pk=account_id)
            is_busy = LoginAttempt.objects.filter(account=account, outcome="").exists()
            assert is_busy or not (
                account.enabled and self.known[account_id].may_send(limits.in_doubt_resends)
            )

    @precondition(lambda self: any(not one.sent for one in self.flights))
    @rule(n=which)
    def send(self, n):
        self._send(pick(n, [one for one in self.flights if not one.sent]))

    def _send(self, flight):
        known = self.known[flight.account_id]
        claimed = self.claims[flight.attempt_id]
        if not self._is_mine(flight):
            with pytest.raises(LeaseLost):
                context._record_sending(claimed)
            return
        context._record_sending(claimed)
        resends = AdmissionLimits.current().in_doubt_resends
        if flight.secret in known.wrong:
            assert flight.secret in known.allowed
        elif flight.secret not in known.proven and flight.secret not in known.allowed:
            # So at most 1 + resends sendings of it ever end in doubt.
            assert known.doubts[flight.secret] <= resends
        known.allowed.discard(flight.secret)
        flight.sent = True

    @precondition(lambda self: any(one.sent for one in self.flights))
    @rule(n=which, ttl=st.sampled_from([30, 600, 3600]))
    def succeed(self, n, ttl):
        self._succeed(pick(n, [one for one in self.flights if one.sent]), ttl)

    def _succeed(self, flight, ttl):
        if not flight.sent:
            return
        before, mine = snapshot(flight.account_id), self._is_mine(flight)
        grant = LoginGrant(
            material=TokenMaterial(bearer=f"t-{flight.attempt_id}"),
            expires_at=timezone.now() + timedelta(seconds=ttl),
        )
        written = completion.succeed(flight.attempt_id, grant)
        assert written == mine
        self.flights.remove(flight)
        if not written:
            assert snapshot(flight.account_id) == before
            return
        known = self.known[flight.account_id]
        known.proven.add(flight.secret)
        known.wrong.discard(flight.secret)
        assert TokenRequest.objects.get(pk=flight.request_id).status == "done"

    @precondition(lambda self: self.flights)
    @rule(
        n=which,
        name=st.sampled_from(FAILURES),
        retry_after_s=st.sampled_from([None, None, 45.0]),
    )
    def fail(self, n, name, retry_after_s):
        self._fail(pick(n, self.flights), name, retry_after_s)

    def _fail(self, flight, name, retry_after_s=None):
        if name == "InvalidCredentials" and not flight.sent:
            return
        before, mine = snapshot(flight.account_id), self._is_mine(flight)
        was_sent_open = flight.sent and self._is_open(flight)
        written = completion.fail(flight.attempt_id, failure(name, retry_after_s))
        assert written == mine
        self.flights.remove(flight)
        known = self.known[flight.account_id]
        if was_sent_open and not written and name in IN_DOUBT:
            # Refused, but what the site made of the secret is as unknown as before.
            return
        if not written:
            assert snapshot(flight.account_id) == before
            return
        if name == "InvalidCredentials":
            known.wrong.add(flight.secret)
            known.proven.discard(flight.secret)
        elif name in IN_DOUBT and flight.sent:
            known.doubts[flight.secret] += 1
        elif name in SITE_FAULTS or name in ("NetworkFailure", "RateLimited"):
            assert snapshot(flight.account_id) == before

    @precondition(lambda self: self.flights)
    @rule(is_really_dead=st.booleans())
    def lose_the_worker(self, is_really_dead):
        """All logins of this process end as lost; a new process takes over."""
        for flight in self.flights:
            if flight.sent and self._is_open(flight):
                self.known[flight.account_id].doubts[flight.secret] += 1
        WorkerProcess.objects.filter(pk=self.owner.id).update(
            ended_at=database_now(), ended_how="died"
        )
        recovery.sweep()
        assert not LoginAttempt.objects.filter(outcome="", owner=self.owner.id).exists()
        self.owner = Owner.take(cluster="default")
        if is_really_dead:  # otherwise its results come late
            self.flights.clear()

    busy_1, busy_2, busy_3 = _a_busy_minute(), _a_busy_minute(), _a_busy_minute()
    busy_4 = _a_busy_minute()

    @rule(site=sites, n=which, result=st.sampled_from(["", *FAILURES]))
    def change_an_account_during_its_login(self, site, n, result):
        self.ask_for_every_account(site)
        if self._admit_one():
            self._send(self.flights[-1])
        flight = pick(n, self.flights)
        if flight:
            account = Account.objects.select_related("site").get(pk=flight.account_id)
            self.edit_credentials_of(account, f"during-{n}")
            self._fail(flight, result) if result else self._succeed(flight, 600)

    @rule(site=sites, repaired=st.sampled_from([True, True, False]))
    def have_an_outage(self, site, repaired):
        """Let logins fail until the breaker opens, and its time pass; two wait for its probe."""
        self._make_room(site, total=4, at_site=3, kept=0)
        for _ in range(2):
            self.ask_for_every_account(site)
            self._admit_all()
            for flight in [one for one in self.flights if one.site == site]:
                self._fail(flight, "UnexpectedPage")
            let_pass(61)
        let_pass(3600)
        self.ask_the_health_of_broken_sites(healthy=repaired)
        self.ask_for_every_account(site)
        self._admit_all()

    @rule(site=sites, room=st.sampled_from(ROOMS))
    def have_a_batch(self, site, room):
        """Let more wait in the background than may take the permits."""
        total, at_site, kept = room
        for where in sorted(SITES, reverse=site == SITES[1]):
            self._make_room(where, total=total, at_site=at_site, kept=kept)
            for name in NAMES:
                self.ask_in_the_background(where, name, Queue.BATCH, CALLERS[0])
        self._admit_all()

    def _make_room(self, site, *, total, at_site, kept):
        """Take out of the way what mostly keeps logins of this site from starting."""
        AdmissionLimits.objects.update(
            max_concurrent=total,
            max_concurrent_per_site=at_site,
            reserved_for_interactive=kept,
            paused=False,
        )
        Site.objects.filter(slug=site).update(
            max_concurrent=None, cooldown_until=None, budget_per_account=50, budget_per_site=50,
            paused=False, closed_hours=[],
        )  # fmt: skip
        SiteBreaker.objects.filter(site__slug=site).delete()
        StoredToken.objects.filter(account__site__slug=site).delete()
        for flight in [one for one in self.flights if one.site == site]:
            self._fail(flight, "LeaseLost")
        for request in TokenRequest.objects.live().filter(site__slug=site, status="queued"):
            outcomes.end(request.pk, Status.CANCELLED, at=database_now())
        for account in Account.objects.filter(site__slug=site).select_related("site"):
            self.secrets += 1
            self.edit_credentials_of(account, f"new-{self.secrets}")
            Account.objects.filter(pk=account.pk).update(enabled=True)

    # Events: time and people ---------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 20, 70, 290, 700, 4000]))
    def time_passes(self, seconds):
        let_pass(seconds)
        cache.clear_all()

    @rule()
    def sweep(self):
        at = database_now()
        recovery.sweep()
        assert not TokenRequest.objects.filter(status="queued", expires_at__lte=at).exists()

    @rule(total=st.integers(1, 4), site=st.integers(1, 3), kept=st.integers(0, 2))
    def edit_limits(self, total, site, kept):
        AdmissionLimits.objects.update(
            max_concurrent=total, max_concurrent_per_site=site, reserved_for_interactive=kept
        )

    @rule(slug=sites, limit=st.sampled_from([None, 1, 2]))
    def edit_a_sites_limit(self, slug, limit):
        Site.objects.filter(slug=slug).update(max_concurrent=limit)

    @rule(site=sites, name=names, back=st.booleans(), in_flight=st.booleans(), n=which)
    def edit_credentials(self, site, name, back, in_flight, n):
        account = Account.objects.select_related("site").get(site__slug=site, username=name)
        if in_flight and self.flights:
            flight = pick(n, self.flights)
            account = Account.objects.select_related("site").get(pk=flight.account_id)
            site, name = account.site.slug, account.username
        self.secrets += 1
        self.edit_credentials_of(account, f"{site}-{name}" if back else f"new-{self.secrets}")

    def edit_credentials_of(self, account, secret):
        known = self.known[account.pk]
        accounts.set_secrets(account, {"password": secret})
        account.refresh_from_db()
        changed = secret != known.secret
        assert account.credential_version == known.version + changed
        assert account.fence > known.fence or not changed
        known.secret, known.version, known.fence = (
            secret, account.credential_version, account.fence,
        )  # fmt: skip

    @rule(site=sites, name=names)
    def allow_one_attempt(self, site, name):
        account = Account.objects.get(site__slug=site, username=name)
        account.site = Site.objects.get(slug=site)
        accounts.allow_one_attempt(account, by="ann", reason="a captcha")
        self.known[account.pk].allowed.add(self.known[account.pk].secret)

    @rule(site=sites, name=names, enabled=st.sampled_from([*[True] * 5, False]))
    def switch_an_account(self, site, name, enabled):
        account = Account.objects.select_related("site").get(site__slug=site, username=name)
        account.enabled, account.needs_action = enabled, ""
        accounts.update(account, fields=["enabled", "needs_action"])

    @rule(n=which)
    def revoke(self, n):
        tokens = StoredToken.objects.select_related("account__site")
        token = pick(n, tokens.order_by("account__site__slug", "version"))
        if token is None:
            return
        was_revoked = token.revoked_at is not None
        assert accounts.revoke(token, reason="revoked") != was_revoked
        self.known[token.account_id].fence = Account.objects.get(pk=token.account_id).fence

    # Mostly open: where everything is closed most of the time, little else is ever tried.
    @rule(
        slug=sites,
        how=st.sampled_from([*["open"] * 7, "paused", "paused_for_a_while", "closed"]),
    )
    def pause(self, slug, how):
        until = timezone.now() + timedelta(seconds=60) if how == "paused_for_a_while" else None
        Site.objects.filter(slug=slug).update(
            paused=how.startswith("paused"),
            paused_until=until,
            closed_hours=ALWAYS if how == "closed" else [],
        )

    @rule(paused=st.sampled_from([*[False] * 7, True]))
    def pause_everything(self, paused):
        AdmissionLimits.objects.update(paused=paused)

    @rule(slug=sites, wanted=st.sampled_from(["forced_open", "forced_closed", *["closed"] * 6]))
    def set_breaker(self, slug, wanted):
        with locks.admission() as at:
            site = Site.objects.get(slug=slug)
            breaker.force(site, BreakerState(wanted), at=at, by="ann")

    @rule(healthy=st.sampled_from([True, None, False]))
    def ask_the_health_of_broken_sites(self, healthy):
        with locks.admission() as at:
            for row in breaker.health_due(at=at):
                assert breaker.take_health(row, at=at)
                breaker.health_answered(row, healthy, at=at)

    # What always holds ---------------------------------------------------------------------

    @invariant()
    def one_open_login_per_account_and_request(self):
        rows = LoginAttempt.objects.filter(outcome="")
        for name in ("account_id", "request_id"):
            found = list(rows.values_list(name, flat=True))
            assert len(found) == len(set(found))

    @invariant()
    def an_open_login_belongs_to_a_live_request(self):
        rows = LoginAttempt.objects.filter(outcome="").select_related("request")
        assert all(row.request.status in LIVE for row in rows)
        running = TokenRequest.objects.filter(status="running")
        assert not running.exclude(logins__outcome="").exists()

    @invariant()
    def one_login_probes_a_broken_site(self):
        for row in SiteBreaker.objects.filter(state=BreakerState.HALF_OPEN):
            since = LoginAttempt.objects.filter(
                site=row.site_id, outcome="", started_at__gte=row.changed_at
            )
            assert since.count() <= 1

    @invariant()
    def one_live_request_per_site_and_key(self):
        found = list(
            TokenRequest.objects.filter(status__in=LIVE).values_list("site", "requested_key")
        )
        assert len(found) == len(set(found))

    @invariant()
    def every_ended_request_has_one_history_row(self):
        rows = Counter(TokenAcquisitionHistory.objects.values_list("request_id", flat=True))
        ended = set(TokenRequest.objects.exclude(status__in=LIVE).values_list("pk", flat=True))
        assert dict(rows) == dict.fromkeys(ended, 1)

    @invariant()
    def a_tokens_version_only_grows(self):
        for account, version in StoredToken.objects.values_list("account", "version"):
            assert version >= self.versions[account]
            self.versions[account] = version
        for site in Site.objects.all():
            newest = StoredToken.objects.filter(account__site=site).order_by("-version").first()
            assert newest is None or newest.version <= site.token_serial

    @invariant()
    def what_is_called_wrong_is_remembered(self):
        for pk, known in self.known.items():
            account = Account.objects.get(pk=pk)
            wrong = account.verdicts.filter(
                fingerprint=account.secret_fingerprint, wrong_at__isnull=False
            ).exists()
            assert wrong == (known.secret in known.wrong)

    # Helpers -------------------------------------------------------------------------------

    def _live(self, site, key):
        return TokenRequest.objects.filter(site=site, requested_key=key, status__in=LIVE).first()

    def _is_open(self, flight):
        return LoginAttempt.objects.filter(pk=flight.attempt_id, outcome="").exists()

    def _is_mine(self, flight):
        known = self.known[flight.account_id]
        same = (flight.fence, flight.credential_version) == (known.fence, known.version)
        return self._is_open(flight) and same


@pytest.mark.timeout(3600)
def test_admission_and_completion_hold_under_any_order_of_events(core):
    profile = PROFILES[os.environ.get("LATCHKEY_MACHINE", "quick")]
    run_state_machine_as_test(Admission, settings=profile)
