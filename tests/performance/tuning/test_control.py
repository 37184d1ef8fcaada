"""The rule against sites whose capacity it does not know; virtual time, fixed seeds."""

import random

import pytest

from apps.performance.services.tuning_control import (
    WAIT_MAX,
    WINDOW,
    Bounds,
    Completion,
    State,
    advance,
)
from tests.performance.tuning.hidden_site import run

WIDE = Bounds(lowest=1, highest=16)
HALF_A_DAY_S, LOGIN_S = 43_200, 10


@pytest.mark.parametrize("mode", ["rejects", "slows"])
@pytest.mark.parametrize("capacity", range(1, 11))
def test_a_hidden_capacity_is_found_and_kept(capacity, mode):
    found = run([(capacity, 6_000)], mode=mode, seed=capacity)

    assert found.share >= 0.95
    assert found.rejection_rate <= 0.01


@pytest.mark.parametrize("mode", ["rejects", "slows"])
@pytest.mark.parametrize("capacities", [(1, 10), (10, 1), (2, 8, 4, 1, 7)], ids=str)
def test_a_capacity_that_changes_is_followed(capacities, mode):
    phases = [(capacity, capacity * HALF_A_DAY_S / LOGIN_S) for capacity in capacities]

    found = run(phases, mode=mode, seed=3)

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


def test_a_refused_probe_goes_back_by_one_and_waits_twice_as_long():
    state = _settled(3)
    waits = []
    for _ in range(12):
        state = _until_probe(state)
        assert state.limit == 4
        state = advance(
            state, Completion(concurrency=4, took_s=0.3, ok=False, rejected=True), bounds=WIDE
        ).state
        assert state.limit == 3
        waits.append(state.wait)

    assert waits[:4] == [24, 48, 96, 192]
    assert waits[-1] == max(WAIT_MAX, 128 * 3)


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


def _settled(limit):
    state, chance = State(limit=limit, wait=WINDOW), random.Random(1)
    for _ in range(WINDOW - 1):
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
