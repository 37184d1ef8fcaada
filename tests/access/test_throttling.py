import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection

from apps.access import leases, outage
from apps.access.contracts import Principal
from apps.access.leases import LEASES
from apps.access.models import RateWindow
from apps.access.throttling import consume, consume_held, prune
from apps.common import clock
from apps.common.errors import TooManyRequests

FROZEN = 1_800_000_030


@pytest.fixture(autouse=True)
def no_leases():
    LEASES.reset()
    yield
    LEASES.reset()


def ask(limit, tries, barrier, passed):
    """In a process of its own: take until refused, or `tries` times; 0 is until refused."""
    # The clock stands in the middle of one window, however slow the machine is.
    clock.now = lambda: datetime.fromtimestamp(FROZEN, tz=UTC)
    barrier.wait()
    taken = refused = 0
    while refused == 0 if tries == 0 else taken + refused < tries:
        if leases.take("key:1", limit=limit) == 0:
            taken += 1
        else:
            refused += 1
    passed.put(taken)


def run_processes(limit, tries):
    """Return how many were let through in processes that start at the same moment."""
    # A child must not inherit the socket of its parent's connection.
    connection.close()
    fork = multiprocessing.get_context("fork")
    barrier, passed = fork.Barrier(len(tries)), fork.Queue()
    children = [fork.Process(target=ask, args=(limit, n, barrier, passed)) for n in tries]
    for child in children:
        child.start()
    try:
        return [passed.get(timeout=60) for _ in children]
    finally:
        for child in children:
            child.join(60)
            child.kill()


def robot(limit, key="1"):
    return Principal(kind="key", id=key, name="robot", user_id=1, rate_limit_per_minute=limit)


def let_through(principal, tries):
    passed = 0
    for _ in range(tries):
        try:
            consume(principal)
        except TooManyRequests:
            continue
        passed += 1
    return passed


@pytest.mark.processes
@pytest.mark.parametrize("limit", [3, 600])
def test_four_processes_share_one_allowance(transactional_db, limit):
    assert sum(run_processes(limit, [0, 0, 0, 0])) == limit
    assert RateWindow.objects.get().used == limit


@pytest.mark.processes
def test_three_processes_that_fell_silent_hold_little_back(transactional_db):
    silent = run_processes(600, [40, 60, 80])
    assert sorted(silent) == [40, 60, 80]
    (rest,) = run_processes(600, [0])
    assert 540 <= sum(silent) + rest <= 600


def test_the_limit_is_exact(db, time):
    assert let_through(robot(25), 100) == 25


@pytest.mark.parametrize("limit", [1, 2, 39, 41, 1_000])
def test_one_process_can_use_all_of_any_limit(db, time, limit):
    assert let_through(robot(limit), limit + 5) == limit


def test_a_new_minute_is_a_new_allowance(db, time):
    let_through(robot(5), 10)
    time.move(60)
    assert let_through(robot(5), 10) == 5


def test_keys_do_not_share(db, time):
    let_through(robot(5), 10)
    assert let_through(robot(5, key="2"), 10) == 5


def test_a_refusal_says_when_to_come_back(db, time):
    let_through(robot(1), 1)
    with pytest.raises(TooManyRequests) as caught:
        consume(robot(1))
    assert 0 < caught.value.retry_after_s <= 60
    time.move(caught.value.retry_after_s)
    consume(robot(1))


def test_a_caller_without_a_limit_has_the_default(db, time, settings):
    settings.LATCHKEY_RATE_LIMIT_PER_MINUTE = 7
    assert let_through(robot(None), 10) == 7


def test_most_requests_write_nothing(db, time, django_assert_max_num_queries):
    with django_assert_max_num_queries(50):
        assert let_through(robot(600), 600) == 600


def test_a_refused_caller_costs_no_queries(db, time, django_assert_num_queries):
    let_through(robot(10), 11)
    with django_assert_num_queries(0):
        assert let_through(robot(10), 100) == 0


def test_without_a_database_a_process_allows_the_limit_alone(db, time, monkeypatch):
    def away(*args):
        raise OperationalError("connection refused")

    monkeypatch.setattr(leases, "_claim", away)
    assert let_through(robot(20), 50) == 20


def test_after_an_outage_the_row_counts_again(db, time, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(leases, "_claim", lambda *args: (_ for _ in ()).throw(OperationalError("x")))
        assert let_through(robot(20), 5) == 5
    outage.forget()
    let_through(robot(20), 5)
    assert RateWindow.objects.get().used >= 5


def test_what_is_held_is_counted_without_a_database(db, time, django_assert_num_queries):
    assert not consume_held(robot(600))
    consume(robot(600))
    consume(robot(600))
    with django_assert_num_queries(0):
        assert consume_held(robot(600))
    assert not consume_held(robot(600))


def test_old_windows_are_pruned(db, time):
    consume(robot(5))
    time.move(timedelta(minutes=5).total_seconds())
    consume(robot(5))
    assert prune(clock.now() + timedelta(minutes=7)) == 1
    assert RateWindow.objects.count() == 1
