"""Admission, refusal, explanation and the cached blacklist go by one rule, whatever the state.

Random sites, accounts and requests, in states that the rules could have brought about; then what
is explained is compared with what is done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.caching import services as cache
from apps.tokens.errors import NoAccountAvailable
from apps.tokens.models import (
    Account,
    AdmissionLimits,
    LoginAttempt,
    SecretVerdict,
    Site,
    SiteBreaker,
    TokenRequest,
)
from apps.tokens.services import acquisition, directory, explain, selection
from apps.tokens.services.owner import Owner
from tests.tokens.work import claim, claim_some

STEADY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ALWAYS = [{"from": "00:00", "to": "24:00"}]

seconds = st.sampled_from([None, -60, 60])
rare = st.sampled_from([False] * 4 + [True])

accounts = st.fixed_dictionaries(
    {
        "enabled": st.sampled_from([True, True, True, False]),
        "preferred": st.booleans(),
        "needs_action": st.sampled_from(["", "", "", "accept"]),
        "cools_s": seconds,
        "successes": st.integers(0, 60),
        "failures": st.integers(0, 5),
        "success_h": st.sampled_from([None, 0, 5, 200]),
        "verdict": st.sampled_from(["", "", "wrong", "proven", "allowed"]),
        "doubts": st.integers(0, 2),
        "spent": st.integers(0, 3),
        "busy": rare,
    }
)
sites = st.fixed_dictionaries(
    {
        "enabled": st.sampled_from([True] * 5 + [False]),
        "paused": rare,
        "paused_s": seconds,
        "closed": rare,
        "cools_s": st.sampled_from([None, None, -60, 60]),
        "max_concurrent": st.sampled_from([None, 1, 2]),
        "budget": st.sampled_from([600, 600, 4]),
        "strategy": st.sampled_from(["best_score", "least_recently_used", "round_robin"]),
        "breaker": st.sampled_from(
            ["", "", "", "open", "due", "healthy", "half_open", "forced_open", "forced_closed"]
        ),
        "accounts": st.lists(accounts, max_size=3),
        "requests": st.lists(
            st.tuples(
                st.integers(-1, 2),  # which account, -1 any
                st.sampled_from(["interactive", "batch", "refresh"]),
                st.sampled_from([-60, -60, 60]),  # not_before
                st.integers(-500, 500),  # order
                st.booleans(),  # set aside: decides nothing
            ),
            max_size=3,
        ),
    }
)
worlds = st.fixed_dictionaries(
    {
        "sites": st.lists(sites, min_size=1, max_size=3),
        "paused": rare,
        "max_concurrent": st.integers(1, 4),
        "reserved": st.integers(0, 1),
        "resends": st.integers(0, 1),
    }
)


@contextmanager
def undone() -> Iterator[None]:
    """Take everything back that is written inside; every example starts from nothing."""
    cache.clear_all()
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def build(world):
    limits = AdmissionLimits.objects.create(
        pk=1,
        paused=world["paused"],
        max_concurrent=world["max_concurrent"],
        reserved_for_interactive=world["reserved"],
        in_doubt_resends=world["resends"],
    )
    owner = Owner.take(cluster="default")
    for n, wanted in enumerate(world["sites"]):
        _build_site(f"s{n}", wanted, owner)
    return limits


def _build_site(slug, wanted, owner):
    at = timezone.now()
    site = Site.objects.create(
        slug=slug,
        connector="scripted",
        enabled=wanted["enabled"],
        paused=wanted["paused"],
        paused_until=_later(at, wanted["paused_s"]),
        closed_hours=ALWAYS if wanted["closed"] else [],
        cooldown_until=_later(at, wanted["cools_s"]),
        max_concurrent=wanted["max_concurrent"],
        budget_per_site=wanted["budget"],
        budget_per_account=3,
        strategy=wanted["strategy"],
    )
    rows = [_build_account(site, n, one, owner) for n, one in enumerate(wanted["accounts"])]
    for index, queue, not_before_s, order_s, set_aside in wanted["requests"]:
        account = rows[index] if 0 <= index < len(rows) else None
        key = str(account.pk) if account else ""
        if not site.requests.filter(requested_key=key, status__in=["queued", "running"]).exists():
            row = _request(site, account, key, queue, _later(at, not_before_s), _later(at, order_s))
            TokenRequest.objects.filter(pk=row.pk).update(set_aside=set_aside)
    if state := wanted["breaker"]:
        SiteBreaker.objects.create(
            site=site,
            state="open" if state in ("due", "healthy") else state,
            open_until=at + timedelta(seconds=60 if state == "open" else -60),
            healthy_at=at if state == "healthy" else None,
            probe=uuid4(),
        )


def _build_account(site, n, wanted, owner):
    at = timezone.now()
    account = Account.objects.create(
        site=site,
        username=f"u{n}",
        enabled=wanted["enabled"],
        preferred=wanted["preferred"],
        needs_action=wanted["needs_action"],
        cooldown_until=_later(at, wanted["cools_s"]),
        success_count=wanted["successes"],
        failure_count=wanted["failures"],
        last_success_at=None
        if wanted["success_h"] is None
        else at - timedelta(hours=wanted["success_h"]),
        secret_fingerprint=f"f{n}",
    )
    if verdict := wanted["verdict"]:
        SecretVerdict.objects.create(
            account=account,
            fingerprint=account.secret_fingerprint,
            wrong_at=at if verdict in ("wrong", "allowed") else None,
            proven_at=at if verdict == "proven" else None,
            allowed_once_at=at if verdict == "allowed" else None,
        )
    past = _request(site, account, str(account.pk), "interactive", at, at, status="failed")
    for _ in range(wanted["doubts"]):
        _attempt(past, account, owner, "lost", fingerprint=account.secret_fingerprint)
    for _ in range(wanted["spent"]):
        _attempt(past, account, owner, "succeeded", hours=0.5)
    if wanted["busy"]:
        _attempt(
            _request(site, account, str(account.pk), "interactive", at, at, status="running"),
            account,
            owner,
            "",
        )
    return account


def _request(site, account, key, queue, not_before, order_at, status="queued"):
    at = timezone.now()
    return TokenRequest.objects.create(
        site=site,
        account=account,
        requested_key=key,
        status=status,
        reason="no_token",
        queue=queue,
        order_at=order_at,
        not_before=not_before,
        expires_at=at + timedelta(hours=1),
        created_at=at,
    )


def _attempt(request, account, owner, outcome, *, fingerprint="", hours=2.0):
    began = timezone.now() - timedelta(hours=hours)
    LoginAttempt.objects.create(
        request=request,
        site=account.site,
        account=account,
        owner_id=owner.id,
        fence=1,
        credential_version=1,
        concurrency_at_start=1,
        started_at=began,
        finished_at=began if outcome else None,
        deadline=began,
        outcome=outcome,
        secret_fingerprint=fingerprint,
        secret_sent_at=began if fingerprint else None,
    )


def _later(at, seconds):
    return None if seconds is None else at + timedelta(seconds=seconds)


def free_requests():
    """Return those that wait for nothing but a worker, as explained, in their order."""
    rows = TokenRequest.objects.filter(status="queued").select_related("site", "account")
    found = [(row, explain.request(row)) for row in rows.order_by("order_at", "pk")]
    return [
        (row, told) for row, told in found if [wait.code for wait in told.waiting_for] == ["worker"]
    ]


@pytest.fixture(autouse=True)
def world_is_empty(db):
    Owner.take(cluster="default")


@STEADY
@given(worlds)
def test_what_is_said_to_wait_for_a_worker_is_what_the_next_claim_takes(world):
    with undone():
        build(world)
        for _ in range(8):
            free = free_requests()
            told_next = {site.slug: explain.site(site).next_request for site in Site.objects.all()}
            claimed = claim()
            assert (claimed is None) == (not free)
            if claimed is None:
                return
            assert told_next[claimed.site.slug] == str(claimed.request_id)
            first, told = free[0]
            oldest = [row.pk for row, _ in free if row.order_at == first.order_at]
            assert claimed.request_id in oldest
            if claimed.request_id == first.pk:
                ranked = {one.position: one.account for one in told.accounts if one.eligible}
                assert claimed.credentials.username == ranked[1]


@STEADY
@given(worlds)
def test_several_claims_at_once_are_the_same_as_one_after_the_other(world):
    with undone():
        build(world)
        start = transaction.savepoint()
        singly = [one.request_id for one in iter(claim, None)]
        transaction.savepoint_rollback(start)
        cache.clear_all()
        at_once = [one.request_id for some in iter(claim_some, []) for one in some]
        assert at_once == singly


@STEADY
@given(worlds)
def test_nobody_who_is_said_to_be_ineligible_is_ever_chosen(world):
    with undone():
        limits = build(world)
        at = timezone.now()
        for site in Site.objects.all():
            verdicts = {one.account: one.eligible for one in explain.site(site).accounts}
            mine = Account.objects.filter(site=site)
            chosen = selection.choose(mine, site=site, at=at, limits=limits)
            assert (chosen is None) == (not any(verdicts.values()))
            assert chosen is None or verdicts[chosen.username]
            for account in mine:
                alone = selection.choose(
                    mine.filter(pk=account.pk), site=site, at=at, limits=limits
                )
                assert (alone is not None) == verdicts[account.username]


@STEADY
@given(worlds)
def test_a_caller_is_refused_exactly_when_no_waiting_can_help(world):
    with undone():
        build(world)
        for site in Site.objects.all():
            told = explain.site(site).accounts
            waiting_helps = any(one.eligible or one.until for one in told)
            try:
                acquisition._require_possible(site, None)
                refused = False
            except NoAccountAvailable as error:
                refused = True
                reasons = error.details["reasons"]
                assert sum(reasons.values()) == len(told) or reasons == {"no_accounts": 1}
            assert refused == (not waiting_helps)


@STEADY
@given(worlds)
def test_the_blacklist_names_exactly_who_is_ineligible_and_not_only_busy(world):
    with undone():
        build(world)
        for site in Site.objects.all():
            listed = {one["account"]: one["reason"] for one in directory.blacklist(site.slug)}
            told = {
                one.account: one.reason
                for one in explain.site(site).accounts
                if not one.eligible and one.reason != "account_busy"
            }
            assert listed == told
