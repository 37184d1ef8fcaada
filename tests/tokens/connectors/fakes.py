"""A login context for tests: no rows, no worker, the real guard on everything that leaves."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from apps.tokens.connectors.http import guarded_client
from apps.tokens.contracts import Challenge, Credentials, SiteConfig, StepTrace
from apps.tokens.errors import ChallengeUnanswered, LeaseLost, RecipeError


def make_site(**changes: Any) -> SiteConfig:
    """Return a site that may talk to portal.example and loopback."""
    values: dict[str, Any] = {
        "slug": "court_zxfw",
        "connector": "http_recipe",
        "recipe": {},
        "allowed_hosts": ("portal.example", "127.0.0.1", "localhost"),
        "request_timeout_s": 5.0,
    }
    return SiteConfig(**{**values, **changes})


def make_credentials(username: str = "alice", **secrets: str) -> Credentials:
    """Return credentials whose password is easy to find where it should not be."""
    return Credentials(username=username, secrets={"password": "s3cret-Passw0rd", **secrets})


class FakeContext:
    """A LoginContext that records what it was asked.

    `handler` answers requests without a network (httpx.MockTransport); without one, requests
    really leave, to loopback. `answers` are given to challenges in turn; a challenge without an
    answer raises ChallengeUnanswered. `codes` are the one-time codes, in turn.
    `events` holds the order of things: `lease`, `secret`, `sent POST /login`, `challenge`.
    `leases` is how often the lease stands before it is lost; None is for ever.
    """

    def __init__(
        self,
        *,
        site: SiteConfig | None = None,
        credentials: Credentials | None = None,
        answers: Iterable[str] = (),
        codes: Iterable[str] = (),
        handler: Callable[[httpx.Request], Any] | None = None,
        deadline: Callable[[], float] | None = None,
        leases: int | None = None,
    ) -> None:
        self.site = site or make_site()
        self.credentials = credentials or make_credentials()
        self.answers = list(answers)
        self.codes = list(codes)
        self.handler = handler
        self.deadline = deadline
        self.leases = leases
        self.events: list[str] = []
        self.requests: list[httpx.Request] = []
        self.challenges: list[Challenge] = []
        self.traces: list[StepTrace] = []
        self.stages: list[str] = []

    def http(self, **options: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        if self.handler is not None:
            options.setdefault("transport", httpx.MockTransport(self._answer))
        return guarded_client(
            self.site, before_send=self.check_lease, deadline=self.deadline, **options
        )

    async def check_lease(self) -> None:
        self.events.append("lease")
        if self.leases is not None:
            self.leases -= 1
            if self.leases < 0:
                raise LeaseLost

    async def sending_secret(self) -> None:
        self.events.append("secret")

    async def challenge(self, challenge: Challenge) -> str:
        self.events.append("challenge")
        self.challenges.append(challenge)
        if not self.answers:
            raise ChallengeUnanswered
        return self.answers.pop(0)

    async def one_time_code(self, *, digits: int = 6, period_s: int = 30) -> str:
        self.events.append("code")
        if not self.codes:
            raise RecipeError("The account has no totp_secret.")
        return self.codes.pop(0)

    def progress(self, stage: str) -> None:
        self.stages.append(stage)

    def trace(self, step: StepTrace) -> None:
        self.traces.append(step)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.events.append(f"sent {request.method} {request.url.path}")
        assert self.handler is not None
        answer = self.handler(request)
        return answer if isinstance(answer, httpx.Response) else await answer
