"""The rule against sites whose capacity it does not know; virtual time, fixed seeds."""

import random

import pytest

from apps.performance.services.tuning_control import (
    QUICK,
    Bounds,
    Completion,
    State,
    advance,
)
from tests.performance.tuning.hidden_site import run

WIDE = Bounds(lowest=1, highest=16)
HALF_A_DAY_S, LOGIN_S = 43_200, 10


REJECTS, SLOWS = {"mode": "rejects"}, {"mode": "slows"}
RESTS = {"mode": "rejects", "rest_s": 30.0}


@pytest.mark.parametrize("site", [REJECTS, SLOWS, RESTS], ids=str)
@pytest.mark.parametrize("capacity", range(1, 11))
def test_a_hidden_capacity_is_found_and_kept(capacity, site):
    found = run([(capacity, 10_000 if site is RESTS else 6_000)], seed=capacity, **site)

    assert found.share >= 0.95
    assert found.rejection_rate <= 0.01


@pytest.mark.parametrize("site", [REJECTS, SLOWS, RESTS], ids=str)
@pytest.mark.parametrize("capacities", [(1, 10), (10, 1), (2, 8, 4, 1, 7)], ids=str)
def test_a_capacity_that_changes_is_followed(capacities, site):
    phases = [(capacity, capacity * HALF_A_DAY_S / LOGIN_S) for capacity in capacities]

    found = run(phases, seed=3, **site)

    assert found.share >= 0.95
    assert found.rejection_rate <= 0.01


def test_the_limit_ends_at_the_capacity_where_more_are_refused():
    assert [run([(c, 4_000)], seed=5).limits for c in (1, 4, 9)] == [[1], [4], [9]]


def test_a_site_that_only_slows_down_is_not_crowded():
    """More at once would bring the same and make every login wait longer."""
    limits = [
        run([(c, 6_000)], mode="slows", seed=seed).limits[-1] for c in (1, 3) for seed in (1, 2)
    ]

    assert max(limits) <= 5


def test_the_bounds_are_never_left():
    bounds, seen = Bounds(lowest=2, highest=5), []

    def watching(state, completion, *, bounds):
        step = advance(state, completion, bounds=bounds)
        seen.append(step.state.limit)
        return step

    run([(10, 1_000), (1, 300)], bounds=bounds, control=watching)

    assert (min(seen), max(seen)) == (2, 5)


def test_no_demand_tells_nothing():
    """Logins that began below the limit do not move it, however many and however slow."""
    state = State(limit=4)
    for number in range(500):
        seen = Completion(concurrency=1 + number % 3, took_s=10 + number)
        state = advance(state, seen, bounds=WIDE).state

    assert state == State(limit=4)


@pytest.mark.parametrize(
    ("rests_s", "waits"), [(0.0, [48, 118, 118]), (30.0, [150, 192, 625, 625])]
)
def test_a_refused_try_goes_back_and_its_cost_says_how_long_to_wait(rests_s, waits):
    """One refusal in 118 logins is 0.85 %; 25 s of rest are 7.5 logins of 10 s at a limit of 3."""
    state, found = _settled(3), []
    for _ in waits:
        state = _until_probe(state)
        assert state.limit == 4
        state = _refuse(state, concurrency=4, rests_s=rests_s)
        assert state.limit == 3
        found.append(state.wait)

    assert found == waits


def test_refusals_that_come_late_make_a_try_dearer():
    state = _refuse(_until_probe(_settled(3)), concurrency=4)
    before = state.failed, state.refused
    late = _refuse(state, concurrency=4, rests_s=60.0)

    assert (before, late.refused, late.rests_s, late.limit) == ((1, 1), 2, 60.0, 3)


def test_a_site_that_takes_what_it_refused_is_climbed_again():
    """Two of three are news; nothing is waited for until the next refusal."""
    state = _refuse(_until_probe(_settled(2)), concurrency=3)
    assert not state.climbing
    state = _until_probe(state)
    for _ in range(40):
        state = advance(state, Completion(concurrency=3, took_s=10), bounds=WIDE).state
        if state.limit != 3:
            break

    assert (state.limit, state.probe_of, state.climbing) == (4, 3, True)


def test_one_unlucky_comparison_does_not_end_the_climb():
    state = _until_probe(_settled(3))
    for failed in (1, 2):
        while state.limit == 4:
            slow = Completion(concurrency=4, took_s=30)
            state = advance(state, slow, bounds=WIDE).state
        assert (state.limit, state.failed, state.climbing) == (3, failed, failed == 1)
        state = _until_probe(state)


@pytest.mark.parametrize(("limit", "then"), [(9, 4), (5, 2), (4, 3), (2, 1), (1, 1)])
def test_a_rejection_at_a_settled_limit_lowers_it(limit, then):
    refusal = Completion(concurrency=limit, took_s=0.3, ok=False, rejected=True)

    assert advance(_settled(limit), refusal, bounds=WIDE).state.limit == then


def test_late_rejections_of_a_higher_limit_count_once():
    state = _settled(9)
    for level in (9, 9, 8, 7):
        refusal = Completion(concurrency=level, took_s=0.3, ok=False, rejected=True)
        state = advance(state, refusal, bounds=WIDE).state

    assert state.limit == 4


def test_the_memory_survives_its_row():
    state = _until_probe(_settled(3))

    assert State.from_data(state.as_data()) == state


def test_what_an_older_version_remembers_can_be_read():
    older = State(limit=3).as_data() | {"wait": 96}

    assert State.from_data(older) == State(limit=3)


def _refuse(state, *, concurrency, rests_s=0.0):
    refusal = Completion(
        concurrency=concurrency, took_s=0.3, ok=False, rejected=True, rests_s=rests_s
    )
    return advance(state, refusal, bounds=WIDE).state


def _settled(limit):
    state, chance = State(limit=limit), random.Random(1)
    for _ in range(QUICK - 1):
        seen = Completion(concurrency=limit, took_s=chance.uniform(9, 11))
        state = advance(state, seen, bounds=WIDE).state
    return state


def _until_probe(state):
    limit = state.limit
    for _ in range(2_000):
        state = advance(state, Completion(concurrency=limit, took_s=10), bounds=WIDE).state
        if state.limit != limit:
            return state
    raise AssertionError("no probe")
