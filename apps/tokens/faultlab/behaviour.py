"""How a site of the lab behaves: a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from apps.tokens.faultlab.faults import Fault, FaultKind

DEFAULT_PASSWORD: Final = "correct-horse"  # noqa: S105  # public: the lab's sites guard nothing
DEFAULT_TOTP_SECRET: Final = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105


@dataclass(frozen=True, slots=True)
class LabAccount:
    """What an account of a lab site logs in with; `totp_secret` in base32."""

    password: str = field(default=DEFAULT_PASSWORD, repr=False)
    totp_secret: str = field(default=DEFAULT_TOTP_SECRET, repr=False)


ANYBODY: Final = LabAccount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One site. The defaults are a site without faults; durations in seconds."""

    accounts: Mapping[str, LabAccount] | None = None
    """None: any username with DEFAULT_PASSWORD and DEFAULT_TOTP_SECRET."""
    latency_s: float = 0.0
    latency_jitter_s: float = 0.0
    """Each login takes `latency_s` plus a seeded random part of this."""
    seed: int = 1
    faults: tuple[Fault, ...] = ()
    fault_mix: Mapping[FaultKind, float] = field(default_factory=dict)
    retry_after_s: float | None = None
    hang_s: float | None = None
    """How long `hang` lasts; None: until the client goes."""
    slow_body_s: float = 5.0
    lockout_after: int | None = None
    lockout_s: float | None = None
    """None: until the site is deleted or the lab is reset."""
    session_ttl_s: float = 3600.0
    session_dies_after_s: float | None = None
    idle_ttl_s: float | None = None
    single_session: bool = False
    totp_required: bool = False
    captcha_required: bool = False
    down: bool = False
    max_concurrent: int | None = None
    token_shape: str = "opaque"  # noqa: S105
    expires_in: float | str | None = None
    """None: `session_ttl_s`; a number: that lie; `absent`: the site does not say."""
    gives_refresh: bool = True
    rotate_refresh: bool = True
    reuse_kills_family: bool = False
    refresh_latency_s: float = 0.0
    encoding: str = "utf-8"

    def account(self, username: str) -> LabAccount | None:
        """Return what `username` logs in with, None if there is no such account."""
        return ANYBODY if self.accounts is None else self.accounts.get(username)
