"""Walks the steps of `resolving`, in a thread or in a coroutine, for one caller a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import TimeoutError as WaitTimeout
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from apps.caching.flights import Flight, Outcome
from apps.caching.local import Space
from apps.caching.resolving import LOAD, Wanted, resolve
from apps.common import clock

if TYPE_CHECKING:
    from apps.caching.runtime import Runtime

T = TypeVar("T")
Loader = Callable[[], Any]
AsyncLoader = Callable[[], Awaitable[Any]]


def fly(
    runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted, loader: Loader
) -> Outcome:
    """Return what the one load of this key brings; raises what its loader raises."""
    deadline = clock.monotonic() + wanted.deadline_s
    while True:
        flight, mine = runtime.flights.join(space.namespace, name)
        if mine:
            return _lead(runtime, space, key, name, wanted, loader, flight)
        if flight.owner == get_ident():
            # A loader that asks for its own key would wait for itself.
            return walk(resolve(runtime, space, key, name, wanted), loader)
        try:
            outcome = flight.future.result(max(0.0, deadline - clock.monotonic()))
        except WaitTimeout:
            runtime.flights.leave(space.namespace, name, flight)
            deadline = clock.monotonic() + wanted.deadline_s
            continue
        if outcome is not None:
            return outcome


async def afly(
    runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted, loader: AsyncLoader
) -> Outcome:
    """Do as `fly`, without holding the event loop."""
    deadline = clock.monotonic() + wanted.deadline_s
    while True:
        flight, mine = runtime.flights.join(space.namespace, name)
        if mine:
            return await _alead(runtime, space, key, name, wanted, loader, flight)
        waiting = asyncio.wrap_future(flight.future)
        done, _ = await asyncio.wait({waiting}, timeout=max(0.0, deadline - clock.monotonic()))
        if not done:
            runtime.flights.leave(space.namespace, name, flight)
            deadline = clock.monotonic() + wanted.deadline_s
            continue
        outcome = waiting.result()
        if outcome is not None:
            return outcome


def _lead(
    runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted, loader: Loader,
    flight: Flight,
) -> Outcome:  # fmt: skip
    try:
        outcome = walk(resolve(runtime, space, key, name, wanted), loader)
    except BaseException as error:
        runtime.flights.leave(space.namespace, name, flight)
        _land_badly(flight, error)
        raise
    runtime.flights.leave(space.namespace, name, flight)
    flight.future.set_result(outcome)
    return outcome


async def _alead(
    runtime: Runtime, space: Space, key: str, name: str, wanted: Wanted, loader: AsyncLoader,
    flight: Flight,
) -> Outcome:  # fmt: skip
    try:
        outcome = await awalk(resolve(runtime, space, key, name, wanted), loader)
    except BaseException as error:
        runtime.flights.leave(space.namespace, name, flight)
        _land_badly(flight, error)
        raise
    runtime.flights.leave(space.namespace, name, flight)
    flight.future.set_result(outcome)
    return outcome


def _land_badly(flight: Flight, error: BaseException) -> None:
    """Give the loader's error to those who wait; a cancelled leader lets one of them lead."""
    if isinstance(error, Exception):
        flight.future.set_exception(error)
    else:
        flight.future.set_result(None)


def walk(steps: Generator[Any, Any, T], loader: Loader) -> T:
    result, error = None, None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            brought: T = end.value
            return brought
        result, error = None, None
        try:
            if step is LOAD:
                result = loader()
            elif isinstance(step, float):
                time.sleep(step)
            else:
                result = step()
        except BaseException as raised:  # noqa: BLE001 — goes into the steps, which raise it again
            error = raised


async def awalk(steps: Generator[Any, Any, T], loader: AsyncLoader) -> T:
    result, error = None, None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            brought: T = end.value
            return brought
        result, error = None, None
        try:
            if step is LOAD:
                result = await loader()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                result = await asyncio.to_thread(step)
        except BaseException as raised:  # noqa: BLE001 — goes into the steps, which raise it again
            error = raised
