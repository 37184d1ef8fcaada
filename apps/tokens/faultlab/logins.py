"""The life of one login, the same for every flow.

It is counted from the moment its request reaches the lab until the last byte of the answer has
been handed to the kernel, or until the client's connection closes.
"""

from dataclasses import dataclass, replace
from typing import Final, Protocol

from apps.tokens.faultlab.attempts import Attempt
from apps.tokens.faultlab.faults import NO_FAULT, Fault, FaultKind
from apps.tokens.faultlab.http import HTML, BadRequest, ClientGone, Exchange, Headers
from apps.tokens.faultlab.judge import Outcome, Presented
from apps.tokens.faultlab.sessions import Session
from apps.tokens.faultlab.sites import Site

GARBAGE: Final = b"<!doctype html><title>Hello</title><p>Something nobody has seen before."
SLOW_PIECES: Final = 10

_SAYS: Final = {
    FaultKind.WRONG: (Outcome.WRONG_PASSWORD, 401),
    FaultKind.RATE_LIMITED: (Outcome.RATE_LIMITED, 429),
    FaultKind.SERVER_ERROR: (Outcome.UNAVAILABLE, 500),
    FaultKind.BAD_GATEWAY: (Outcome.UNAVAILABLE, 502),
    FaultKind.UNAVAILABLE: (Outcome.UNAVAILABLE, 503),
    FaultKind.HANG: (Outcome.HUNG, 504),
    FaultKind.RESET: (Outcome.RESET, 0),
    FaultKind.GARBAGE: (Outcome.GARBAGE, 200),
}
"""What a fault says without a look at the password; `ok` and `slow_body` do look."""

_WITHOUT_WORDS: Final = (FaultKind.HANG, FaultKind.RESET, FaultKind.GARBAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a flow has to say to the client."""

    outcome: Outcome
    status: int = 200
    """For `rate_limited` and `unavailable`: which status says so."""
    session: Session | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that a flow has made of a verdict."""

    status: int
    body: bytes
    content_type: bytes
    extra: Headers = ()


class Face(Protocol):
    """How a flow reads a login and words its answer."""

    name: str

    def read(self, site: Site, exchange: Exchange, body: bytes) -> Presented:
        """Return what the request brought. Raises BadRequest."""
        ...

    def word(self, site: Site, verdict: Verdict) -> Answer:
        """Return the answer for a verdict."""
        ...


async def serve(site: Site, exchange: Exchange, face: Face, body: bytes | None = None) -> None:
    """Serve one login and count it, whatever becomes of it. `body` where it is read already."""
    attempt = site.begin(face.name, exchange)
    try:
        await _serve(site, exchange, face, attempt, body)
    except BadRequest as error:
        attempt.outcome, attempt.status = Outcome.MALFORMED, 400
        await exchange.json(400, {"error": "malformed", "message": str(error)})
    except ClientGone:
        # A connection the lab cut itself says nothing about the client.
        attempt.disconnected = attempt.outcome != Outcome.RESET
    finally:
        site.end(attempt)


async def _serve(
    site: Site, exchange: Exchange, face: Face, attempt: Attempt, body: bytes | None
) -> None:
    if body is None:
        body = await exchange.body()
    presented = face.read(site, exchange, body)
    site.identify(attempt, presented)
    latency_s = site.latency_s()
    fault = _refusal(site)
    if fault is None:
        fault = site.plan.next()
        attempt.fault = "" if fault is NO_FAULT else fault.kind.value
    else:
        latency_s = 0.0
    verdict = _decide(site, presented, fault)
    if latency_s:
        await exchange.wait(latency_s)
    if fault.kind in _WITHOUT_WORDS:
        await _misbehave(site, exchange, attempt, verdict)
        return
    if verdict.outcome is Outcome.OK:
        verdict = replace(verdict, session=_open(site, presented))
    attempt.outcome = verdict.outcome
    answer = face.word(site, verdict)
    attempt.status = answer.status
    slow_s = site.behaviour.slow_body_s if fault.kind is FaultKind.SLOW_BODY else 0.0
    await _send(exchange, answer, slow_s)


def _refusal(site: Site) -> Fault | None:
    """Return the fault of a site that turns everybody away at once; None if it does not."""
    if site.behaviour.down:
        return Fault(FaultKind.UNAVAILABLE)
    limit = site.behaviour.max_concurrent
    if limit is not None and site.tally.site.concurrent_now > limit:
        return Fault(FaultKind.RATE_LIMITED)
    return None


def _decide(site: Site, presented: Presented, fault: Fault) -> Verdict:
    """Judge a login the moment it has arrived, as a site does that works through it later."""
    refused = _SAYS.get(fault.kind)
    if refused is None:
        outcome = site.judge.decide(site.behaviour, presented)
        locked_s = site.judge.locked_s(presented.account) if outcome is Outcome.LOCKED else None
        return Verdict(outcome=outcome, retry_after_s=locked_s)
    outcome, status = refused
    if outcome is Outcome.RATE_LIMITED:
        site.tally.add("rate_limited", presented.account)
    wait_s = site.behaviour.retry_after_s if fault.retry_after_s is None else fault.retry_after_s
    return Verdict(outcome=outcome, status=status, retry_after_s=wait_s)


async def _misbehave(site: Site, exchange: Exchange, attempt: Attempt, verdict: Verdict) -> None:
    """Answer with something no recipe can read, late, or not at all."""
    if verdict.outcome is Outcome.HUNG:
        await exchange.wait(site.behaviour.hang_s)
    attempt.outcome = verdict.outcome
    if verdict.outcome is Outcome.RESET:
        exchange.drop()
        await exchange.wait(None)
    attempt.status = verdict.status
    await exchange.answer(verdict.status, GARBAGE, HTML)


def _open(site: Site, presented: Presented) -> Session:
    session = site.sessions.open(site.behaviour, presented.account)
    if site.behaviour.gives_refresh and presented.gives_refresh:
        site.sessions.give_refresh(session)
    return session


async def _send(exchange: Exchange, answer: Answer, slow_s: float) -> None:
    body = answer.body
    await exchange.start(answer.status, answer.content_type, len(body), answer.extra)
    if slow_s:
        size = max(1, len(body) // SLOW_PIECES)
        while len(body) > size:
            await exchange.write(body[:size], more=True)
            body = body[size:]
            await exchange.wait(slow_s / SLOW_PIECES)
    await exchange.write(body)
