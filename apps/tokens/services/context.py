"""What a running login may ask of its worker: the connectors' `LoginContext`, for real."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pyotp
from django.db import transaction

from apps.common.clock import database_now
from apps.tokens.connectors.http import guarded_client
from apps.tokens.contracts import Challenge, Credentials, SiteConfig, StepTrace
from apps.tokens.errors import ChallengeUnanswered, LeaseLost, LoginTimedOut, RecipeError
from apps.tokens.models import Account, LoginAttempt, SecretVerdict, TokenRequest
from apps.tokens.models.attempts import Outcome
from apps.tokens.models.requests import Stage, Status
from apps.tokens.services import checkpoints
from apps.tokens.services.admission import Claim
from apps.tokens.services.owner import Owner
from apps.tokens.services.threads import DatabaseThreads

# A code that is typed in the last moments of its step arrives in the next one.
CODE_MUST_LAST_S: Final = 2.0


@dataclass(slots=True)
class WorkerContext:
    """One login's view of its worker. `on_trace` receives every finished step.

    `term` is the owner's from before the claim. Once it `is_over` nothing more is sent.
    """

    claim: Claim
    owner: Owner
    threads: DatabaseThreads
    on_trace: Callable[[StepTrace], None] | None = None
    secret_recorded: bool = False
    stage: str = ""
    term: int = 0
    is_over: bool = False
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def site(self) -> SiteConfig:
        return self.claim.site

    @property
    def credentials(self) -> Credentials:
        return self.claim.credentials

    def http(self, **options: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return guarded_client(self.site, before_send=self.check_lease, **options)

    async def check_lease(self) -> None:
        if self.is_over:
            raise LoginTimedOut("The login's time was over before the request.")
        if not self.owner.stands(term=self.term):
            raise LeaseLost("The lease ended before the next request was sent.")

    async def sending_secret(self) -> None:
        if self.secret_recorded:
            return
        await self.check_lease()
        await self.threads.run(_record_sending, self.claim)
        self.secret_recorded = True
        await self.check_lease()

    async def challenge(self, challenge: Challenge) -> str:
        raise ChallengeUnanswered(f"The site asked for {challenge.kind}, and nobody answers here.")

    async def one_time_code(self, *, digits: int = 6, period_s: int = 30) -> str:
        seed = self.credentials.secrets.get("totp_secret")
        if not seed:
            raise RecipeError("The recipe needs a one-time code, and the account has no seed.")
        totp = pyotp.TOTP(seed.replace(" ", ""), digits=digits, interval=period_s)
        while True:
            at = time.time()
            step, into_step = int(at // period_s), at % period_s
            fits = period_s - into_step > CODE_MUST_LAST_S
            if fits and await self.threads.run(_take_step, self.claim, step * period_s):
                return totp.at(int(at))
            await asyncio.sleep(period_s - into_step)

    def progress(self, stage: str) -> None:
        if stage == self.stage or stage not in (Stage.LOGGING_IN, Stage.VERIFYING):
            return
        self.stage = stage
        task = asyncio.ensure_future(self.threads.run(_note_stage, self.claim, stage))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def trace(self, step: StepTrace) -> None:
        if self.on_trace:
            self.on_trace(step)

    async def settle(self) -> None:
        """Wait for what `progress` still writes, so that it never overtakes the completion."""
        await asyncio.gather(*self._background, return_exceptions=True)


@dataclass(slots=True)
class ProbeContext:
    """What a probe, a health check or a logout gets: the site, and no secret of the account."""

    site: SiteConfig
    credentials: Credentials = field(default_factory=lambda: Credentials(username=""))

    def http(self, **options: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return guarded_client(self.site, before_send=self.check_lease, **options)

    async def check_lease(self) -> None:
        """Let everything pass: there is no permit behind this."""

    async def sending_secret(self) -> None:
        raise RecipeError("A probe must not send the account's secret.")

    async def challenge(self, challenge: Challenge) -> str:
        raise ChallengeUnanswered

    async def one_time_code(self, *, digits: int = 6, period_s: int = 30) -> str:
        raise RecipeError("A probe must not use a one-time code.")

    def progress(self, stage: str) -> None:
        """Report to nobody."""

    def trace(self, step: StepTrace) -> None:
        """Report to nobody."""


def _record_sending(claim: Claim) -> None:
    """Commit which secret is about to leave, before it does. Raises LeaseLost."""
    with transaction.atomic():
        mine = LoginAttempt.objects.filter(
            pk=claim.attempt_id,
            outcome=Outcome.OPEN,
            account__fence=claim.fence,
            account__credential_version=claim.credential_version,
        ).values("pk")
        recorded = LoginAttempt.objects.filter(pk__in=mine).update(
            secret_fingerprint=claim.secret_fingerprint, secret_sent_at=database_now()
        )
        if not recorded:
            raise LeaseLost("The account was changed, or the login taken away, before sending.")
        # A person's permission is for one sending, whatever comes of it.
        SecretVerdict.objects.filter(
            account=claim.account_id, fingerprint=claim.secret_fingerprint
        ).update(allowed_once_at=None)


def _take_step(claim: Claim, step: int) -> bool:
    """Take a time step of the account's one-time codes; False if it has been used."""
    return bool(
        Account.objects.filter(pk=claim.account_id, last_totp_step__lt=step).update(
            last_totp_step=step
        )
    )


def _note_stage(claim: Claim, stage: str) -> None:
    TokenRequest.objects.filter(pk=claim.request_id, status=Status.RUNNING).update(stage=stage)
    checkpoints.keep(claim.request_id)
