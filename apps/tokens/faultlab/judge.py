"""Whether a login is right: lockouts, passwords, one-time codes and pictures to read."""

import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import pyotp

from apps.tokens.faultlab.behaviour import Behaviour
from apps.tokens.faultlab.counters import Tally

PERIOD_S: Final = 30
MAX_PICTURES: Final = 1_000


class Outcome(StrEnum):
    """How a login ended; the log's word for it."""

    OK = "ok"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    LOCKED = "locked"
    CODE_REQUIRED = "code_required"
    CODE_REJECTED = "code_rejected"
    CAPTCHA_REJECTED = "captcha_rejected"
    CSRF_REJECTED = "csrf_rejected"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    HUNG = "hung"
    RESET = "reset"
    GARBAGE = "garbage"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a login request brought along."""

    account: str
    secret: str = field(repr=False)
    code: str = field(default="", repr=False)
    captcha_id: str = ""
    captcha: str = ""
    csrf_ok: bool = True
    gives_refresh: bool = True
    """False where the grant has no refresh token by its nature (client credentials)."""


class Judge:
    """The memory of one site: who is locked, which codes and pictures are used up."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._wrong_in_a_row: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}
        self._last_step: dict[str, int] = {}
        self.pictures: OrderedDict[str, str] = OrderedDict()
        """Open pictures and what they say."""

    def new_picture(self) -> tuple[str, str]:
        """Return the id and the digits of a new picture."""
        key, digits = secrets.token_hex(8), f"{secrets.randbelow(10_000):04d}"
        self.pictures[key] = digits
        if len(self.pictures) > MAX_PICTURES:
            self.pictures.popitem(last=False)
        return key, digits

    def decide(self, behaviour: Behaviour, presented: Presented) -> Outcome:
        """Return the verdict, and keep what it changes: a wrong try, a used code."""
        if not presented.csrf_ok:
            return Outcome.CSRF_REJECTED
        if behaviour.captcha_required and not self._read(presented):
            return Outcome.CAPTCHA_REJECTED
        if self.locked_s(presented.account) is not None:
            self._tally.add("refused_locked", presented.account)
            return Outcome.LOCKED
        account = behaviour.account(presented.account)
        if account is None or account.password != presented.secret:
            self._count_wrong(behaviour, presented.account)
            return Outcome.WRONG_PASSWORD
        if behaviour.totp_required:
            verdict = self._code(presented, account.totp_secret)
            if verdict is not Outcome.OK:
                return verdict
        self._wrong_in_a_row.pop(presented.account, None)
        return Outcome.OK

    def locked_s(self, account: str) -> float | None:
        """Return for how many seconds an account is still locked, None if it is not."""
        until = self._locked_until.get(account)
        if until is None:
            return None
        left_s = until - time.monotonic()
        if left_s > 0:
            return left_s
        del self._locked_until[account]
        self._wrong_in_a_row.pop(account, None)
        return None

    def _count_wrong(self, behaviour: Behaviour, account: str) -> None:
        wrong = self._wrong_in_a_row[account] = self._wrong_in_a_row.get(account, 0) + 1
        if behaviour.lockout_after is not None and wrong >= behaviour.lockout_after:
            lasts_s = math.inf if behaviour.lockout_s is None else behaviour.lockout_s
            self._locked_until[account] = time.monotonic() + lasts_s
            self._tally.add("lockouts", account)

    def _read(self, presented: Presented) -> bool:
        digits = self.pictures.pop(presented.captcha_id, None)
        return digits is not None and digits == presented.captcha

    def _code(self, presented: Presented, seed: str) -> Outcome:
        if not presented.code:
            return Outcome.CODE_REQUIRED
        step = _matching_step(seed, presented.code)
        if step is None:
            self._tally.add("wrong_codes", presented.account)
            return Outcome.CODE_REJECTED
        # RFC 6238, 5.2: a code is accepted once, and never one older than the last.
        if step <= self._last_step.get(presented.account, -1):
            self._tally.add("code_replays", presented.account)
            return Outcome.CODE_REJECTED
        self._last_step[presented.account] = step
        return Outcome.OK


def _matching_step(seed: str, code: str) -> int | None:
    """Return the time step of a code: now, or one beside it for a clock that is off."""
    now = int(time.time()) // PERIOD_S
    totp = pyotp.TOTP(seed)
    return next((step for step in (now, now - 1, now + 1) if totp.generate_otp(step) == code), None)
