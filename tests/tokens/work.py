"""Runs the worker's part in this process, until nothing can start."""

import asyncio
import queue
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from apps.tokens.services import admission, execution, hints, reports
from apps.tokens.services.owner import Owner


class BackToTheTest:
    """Database threads whose work is done in the test's own thread, inside its transaction."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue()

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        context = copy_context()
        self.calls.put((future, lambda: context.run(function, *args, **kwargs)))
        return await asyncio.wrap_future(future)

    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in another thread's event loop, and its database work here."""
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(asyncio.run, coroutine)
            while not result.done() or not self.calls.empty():
                try:
                    future, call = self.calls.get(timeout=0.002)
                except queue.Empty:
                    continue
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - raised again in the coroutine
                    future.set_exception(error)
            return result.result()


def claim(cluster: str = "default", owner: Owner | None = None) -> admission.Claim | None:
    owner = owner or Owner.take(cluster=cluster)
    return admission.claim(owner_id=owner.id, queues=hints.queues_of(cluster))


def claim_some(
    cluster: str = "default", *, most: int = admission.CLAIMS_AT_ONCE
) -> list[admission.Claim]:
    """Claim as a worker with `most` free slots does, in one transaction."""
    owner = Owner.take(cluster=cluster)
    return admission.claim_some(owner_id=owner.id, queues=hints.queues_of(cluster), most=most)


def work(limit: int = 50, cluster: str = "default") -> int:
    """Claim and run logins one after the other; return how many were made."""
    owner = Owner.take(cluster=cluster)
    made = 0
    while made < limit and (claimed := claim(cluster, owner)):
        threads: Any = BackToTheTest()
        threads.drive(execution.run(claimed, owner=owner, threads=threads))
        made += 1
    return made


def probe() -> bool:
    threads: Any = BackToTheTest()
    return bool(threads.drive(reports.probe_one(threads)))
