"""Whose turn it is."""

import asyncio

import pytest

from apps.common.turns import Turns

NEVER_LONG_S = 60


async def take(turns, due_s, log, name, *, till=None):
    async with turns.turn(due_s):
        log.append(name)
        if till is not None:
            await till.wait()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


async def test_the_one_due_first_goes_first():
    turns, log, end = Turns(1, long_s=NEVER_LONG_S), [], asyncio.Event()
    asked = [("first", 9), ("reads", 0.2), ("changes", 0.1), ("hand-out", 0.05), ("read too", 0.2)]
    async with asyncio.TaskGroup() as group:
        for name, due_s in asked:
            group.create_task(take(turns, due_s, log, name, till=end if not log else None))
            await settle()
        assert log == ["first"]
        end.set()
    assert log == ["first", "hand-out", "changes", "reads", "read too"]


async def test_who_has_waited_long_goes_before_who_is_due_soon():
    turns, log, end = Turns(1, long_s=NEVER_LONG_S), [], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(take(turns, 1, log, "running", till=end))
        await settle()
        group.create_task(take(turns, 0.06, log, "waits"))
        await asyncio.sleep(0.03)
        group.create_task(take(turns, 0.05, log, "has just come"))
        await settle()
        end.set()
    assert log == ["running", "waits", "has just come"]


async def test_so_many_run_at_a_time():
    turns, running, most = Turns(3, long_s=NEVER_LONG_S), set(), 0

    async def run(number):
        nonlocal most
        async with turns.turn(1):
            running.add(number)
            most = max(most, len(running))
            await settle()
            running.discard(number)

    await asyncio.gather(*(run(number) for number in range(20)))
    assert most == 3
    await asyncio.gather(*(run(number) for number in range(20)))  # all turns came back, no more
    assert most == 3


async def test_a_long_one_holds_up_nobody_and_gives_its_turn_back_once():
    turns, log, end = Turns(1, long_s=0.01), [], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in ("stuck", "stuck too"):
            group.create_task(take(turns, 1, log, name, till=end))
        await until(lambda: len(log) == 2)
        group.create_task(take(turns, 1, log, "quick"))
        await until(lambda: len(log) == 3)
        end.set()
    # One turn there was, and one there is: who comes second waits again.
    again, both = asyncio.Event(), []
    async with asyncio.TaskGroup() as group:
        turns._long_s = NEVER_LONG_S
        group.create_task(take(turns, 1, both, "first", till=again))
        group.create_task(take(turns, 1, both, "second"))
        await settle()
        assert both == ["first"]
        again.set()


async def test_who_leaves_while_waiting_takes_no_turn_along():
    turns, log = Turns(1, long_s=NEVER_LONG_S), []
    async with turns.turn(1):
        gone = asyncio.create_task(take(turns, 0.1, log, "gone"))
        gone_then = asyncio.create_task(take(turns, 0.2, log, "gone when its turn had come"))
        await settle()
        gone.cancel()
    # Nothing has run since the turn was passed on.
    gone_then.cancel()
    await asyncio.wait_for(take(turns, 1, log, "last"), 5)
    assert log == ["last"]


async def test_a_failure_gives_the_turn_back():
    turns = Turns(1, long_s=NEVER_LONG_S)
    with pytest.raises(ValueError, match="broken"):
        async with turns.turn(1):
            raise ValueError("broken")
    await asyncio.wait_for(take(turns, 1, [], "next"), 5)
