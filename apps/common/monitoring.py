"""Measures any function or block: how often, how long, and with which errors it ended."""

import functools
import inspect
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from apps.common import events, measure

F = TypeVar("F", bound=Callable[..., Any])

_TAGS: Final = 4


class monitor_performance:  # noqa: N801 - used as a decorator and in `with`, like a function
    """Count calls and errors by class, and observe durations, under a name.

        @monitor_performance("parse", form="csv")
        def parse(text): ...

        with monitor_performance("fetch", site="court"):
            ...

    Works for coroutine functions and in `async with` too. `site` is kept as the site, up to four
    other tags as part of the label. What was raised is raised on; a cancelled coroutine counts as
    `CancelledError`. One instance serves any number of decorated calls, but one `with` at a time.
    """

    __slots__ = ("_began", "_label", "_site")

    def __init__(self, name: str, *, site: str = "", **tags: object) -> None:
        if len(tags) > _TAGS:
            raise ValueError(f"A measurement has {_TAGS} tags at most.")
        self._label = ",".join([name, *(f"{key}={tags[key]}" for key in sorted(tags))])
        self._site = site
        self._began = 0.0

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def monitored_coroutine(*args: Any, **kwargs: Any) -> Any:
                began = time.perf_counter()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self._ended(began, type(error))
                    raise
                self._ended(began, None)
                return result

            return cast("F", monitored_coroutine)

        @functools.wraps(function)
        def monitored(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self._ended(began, type(error))
                raise
            self._ended(began, None)
            return result

        return cast("F", monitored)

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended(self._began, error_class)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended(self._began, error_class)

    def _ended(self, began: float, error_class: type[BaseException] | None) -> None:
        measure.observe(
            events.CALL_S, time.perf_counter() - began, site=self._site, label=self._label
        )
        measure.count(events.CALLS, site=self._site, label=self._label)
        if error_class is not None:
            label = f"{self._label}|{error_class.__name__}"
            measure.count(events.CALL_ERRORS, site=self._site, label=label)


def timed(metric: str) -> Callable[[F], F]:
    """Observe how long a function takes whenever it returns; for what is called very often."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            measure.observe(metric, time.perf_counter() - began)
            return result

        return cast("F", measured)

    return decorate
