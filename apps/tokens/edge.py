"""The fast face of `acquire`: same keys, same services, same answers; waiting costs no thread."""

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from rest_framework.exceptions import APIException

from apps.access import services as access
from apps.access.contracts import Principal
from apps.access.contracts import Scope as Permission
from apps.access.throttling import consume, consume_held
from apps.common import events, tracing, turns
from apps.common.clock import monotonic
from apps.common.edge import (
    Answer,
    ClientGone,
    Receive,
    Scope,
    header,
    read_body,
    remote_address,
)
from apps.common.errors import BrokerError
from apps.common.parsers import parse_json, refuse_other_content
from apps.tokens.errors import AcquisitionFailed
from apps.tokens.serializers.acquire import AcquireInput
from apps.tokens.services import acquisition, answers, bodies, threads, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut, Ticket
from apps.tokens.services.lookup import TokenView

POLL_S: Final = 0.15
REMEMBERED_BYTES: Final = 1_024


@dataclass(slots=True)
class _Started:
    """What one hop into a database thread brought: an answer, or something to wait for."""

    found: HandOut | Ticket
    principal: Principal
    patience_s: float


@dataclass(slots=True)
class WaitingRoom:
    """All the waiters of this process, served by one poller with one look for all of them."""

    waiters: dict[asyncio.Future[TokenView], Ticket] = field(default_factory=dict)
    poller: asyncio.Task[None] | None = None

    async def wait(self, ticket: Ticket, *, timeout_s: float) -> TokenView | None:
        """Return the ticket's token; None when patience ends. Raises AcquisitionFailed."""
        future: asyncio.Future[TokenView] = asyncio.get_running_loop().create_future()
        self.waiters[future] = ticket  # registered before the first look: nothing is missed
        if self.poller is None or self.poller.done():
            self.poller = asyncio.create_task(self._poll())
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return None
        finally:
            self.waiters.pop(future, None)

    async def _poll(self) -> None:
        while self.waiters:
            try:
                found = await threads.shared().run(_look, list(self.waiters.items()))
            except Exception as error:  # noqa: BLE001 - every waiter gets it as its own answer
                self._fail_all(error)
                return
            for future, outcome in found:
                if future.done():
                    continue
                if isinstance(outcome, AcquisitionFailed):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            await asyncio.sleep(POLL_S)

    def _fail_all(self, error: Exception) -> None:
        for future in self.waiters:
            if not future.done():
                future.set_exception(error)


_room = WaitingRoom()


async def acquire(scope: Scope, receive: Receive) -> Answer:
    """`POST tokens/acquire`. Waits LATCHKEY_EDGE_WAIT_S unless the caller says how long."""
    body = await read_body(scope, receive)
    kind = header(scope, "content-type") or ""
    raw_key = key_of(scope) or ""
    address = remote_address(scope)
    at_once = await _at_once(raw_key, body, kind, address)
    if at_once is not None:
        return 200, bodies.hand_out(at_once)
    async with turns.TURNS.turn(turns.HAND_OUT_S):
        started = await threads.shared().run(_start, raw_key, body, kind, address)
    found, principal = started.found, started.principal
    if isinstance(found, HandOut):
        return 200, bodies.hand_out(found)
    view = None
    if started.patience_s > 0:
        with tracing.span("wait"):
            view = await _wait(found, started.patience_s, receive)
    if view is None:
        return await threads.shared().run(answers.pending, found)
    return await threads.shared().run(
        answers.served, found, view, principal=principal, remote_address=address
    )


def key_of(scope: Scope) -> str | None:
    """Return the API key of a request, None where it carries none (a session, perhaps)."""
    scheme, _, value = (header(scope, "authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return header(scope, "x-api-key")


def _start(raw_key: str, body: bytes, kind: str, address: str) -> _Started:
    """Refuse in the order in which the other face does, so that both give the same answer."""
    principal = access.authenticate(raw_key)
    access.require(principal, Permission.TOKENS_READ)
    consume(principal)
    spec, wanted_s = _asked(body, kind)
    if wanted_s is None:
        wanted_s = settings.LATCHKEY_EDGE_WAIT_S
    found = answers.obtain(spec, principal=principal, remote_address=address)
    patience_s = 0.0
    if isinstance(found, Ticket):
        patience_s = acquisition.patience_s(wanted_s, ceiling_s=settings.LATCHKEY_MAX_WAIT_S)
    return _Started(found=found, principal=principal, patience_s=patience_s)


async def _at_once(raw_key: str, body: bytes, kind: str, address: str) -> HandOut | None:
    """Hand out on the event loop what needs no database, no Redis and no thread.

    None leaves everything else to `_start`, refusals too. Under load a thread is where the time
    goes: it waits for the interpreter as often as it needs it.
    """
    began = monotonic()
    try:
        principal = access.authenticate_held(raw_key)
        if principal is None:
            return None
        spec, _ = _asked(body, kind)
    except (BrokerError, APIException):
        return None
    view = acquisition.held(spec, principal=principal)
    if view is None or not consume_held(principal):
        return None
    found = await acquisition.hand_out_held(
        view, spec=spec, principal=principal, remote_address=address
    )
    if found is not None:
        events.handed_out(site=view.site, cached=True, took_s=monotonic() - began)
    return found


def _asked(body: bytes, kind: str) -> tuple[AcquireSpec, float | None]:
    """Return what a body asks for, and how long it is willing to wait, if it says so.

    Programs ask for the same thing again and again; what was refused is not remembered.
    """
    return (_remembered if len(body) <= REMEMBERED_BYTES else _read)(body, kind)


def _read(body: bytes, kind: str) -> tuple[AcquireSpec, float | None]:
    content: Any = {}
    if body:
        refuse_other_content(kind)
        content = parse_json(body)
    form = AcquireInput(data=content)
    form.is_valid(raise_exception=True)
    return form.to_spec(), form.validated_data.get("max_wait_s")


_remembered = lru_cache(maxsize=1_000)(_read)


async def _wait(ticket: Ticket, patience_s: float, receive: Receive) -> TokenView | None:
    """Wait for the token or the caller's leaving, whichever comes first."""
    waiting_for_token = asyncio.ensure_future(_room.wait(ticket, timeout_s=patience_s))
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({waiting_for_token, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting_for_token.done():
            raise ClientGone
        return waiting_for_token.result()
    finally:
        leaving.cancel()
        waiting_for_token.cancel()


def _look(
    waiters: list[tuple[asyncio.Future[TokenView], Ticket]],
) -> list[tuple[asyncio.Future[TokenView], TokenView | AcquisitionFailed]]:
    """Match what has come of the requests with everybody who waits for them."""
    found = waiting.look(ticket for _future, ticket in waiters)
    return [
        (future, found[ticket.request_id])
        for future, ticket in waiters
        if ticket.request_id in found
    ]
