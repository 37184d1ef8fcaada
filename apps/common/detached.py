"""Calls that nobody can stop, such as one of a name server's: nobody waits for their end either.

An executor's threads are waited for, by `asyncio.run` and by the interpreter at its end: a resolver
that hangs would hold up both for as long as it likes, whatever time-out was set.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def begin(call: Callable[[], T]) -> Future[T]:
    """Begin a call in a daemon thread of its own; its result or error comes with the future."""
    found: Future[T] = Future()
    found.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is for who asks the future
            found.set_exception(error)
        else:
            found.set_result(result)

    threading.Thread(target=run, name="detached", daemon=True).start()
    return found


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, and host names are looked up by detached calls."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)


class _Loop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        look_up = partial(socket.getaddrinfo, host, port, **options)
        return await asyncio.wrap_future(begin(look_up), loop=self)
