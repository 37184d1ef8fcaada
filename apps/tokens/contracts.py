"""What the parts of the token app hand to each other: frozen values, never model instances.

Connectors depend on this file and on `errors.py` only.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import httpx


class ProbeVerdict(StrEnum):
    """What a site says about a token it gave out."""

    GOOD = "good"
    BAD = "bad"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What an account logs in with.

    `secrets` holds what the connector needs by name: `password`, `totp_secret` (base32),
    `client_id`, `client_secret`, `private_key`, …
    """

    username: str
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie; `expires` in UTC, None for a session cookie."""

    name: str
    value: str = field(repr=False)
    domain: str = ""
    path: str = "/"
    expires: datetime | None = None
    secure: bool = False
    http_only: bool = False
    same_site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMaterial:
    """What a token is: any of these together, and the user agent and proxy it is tied to."""

    bearer: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: tuple[Cookie, ...] = field(default=(), repr=False)
    local_storage: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Origin → key → value, as Playwright's storageState has it."""
    session_storage: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    user_agent: str = ""
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginGrant:
    """What a successful login or refresh gave.

    `expires_at` is absolute, as the site declares it; None lets the site's default TTL decide.
    `idle_ttl_s` is how long the session lives unused, where the site has such a rule.
    `refresh_token` None means "none given": a stored one is kept.
    """

    material: TokenMaterial
    expires_at: datetime | None = None
    idle_ttl_s: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """A site as a connector sees it."""

    slug: str
    connector: str
    recipe: Mapping[str, Any] = field(repr=False)
    allowed_hosts: tuple[str, ...]
    """`host` or `host:port`; a bare host allows every port, `*.host` every subdomain."""
    login_timeout_s: float = 120.0
    request_timeout_s: float = 30.0
    user_agent: str = "Mozilla/5.0 (compatible; Latchkey)"
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A question of the site that only a person or a solver can answer."""

    kind: str
    """`captcha`, `sms_code`, `email_code`, `approval` or `question`."""
    prompt: str
    image: bytes = field(default=b"", repr=False)
    image_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTrace:
    """What one step of a login did, safe to print: captured values are redacted."""

    step: str
    method: str = ""
    url: str = ""
    status: int | None = None
    took_s: float = 0.0
    captured: Mapping[str, str] = field(default_factory=dict)
    """Variable → redacted form, such as `eyJh… (812 characters)`."""
    verdict: str = ""


class LoginContext(Protocol):
    """What a connector may ask of the worker that runs it.

    Everything that leaves goes through `http()`: it sends only to the site's allowed hosts,
    redirects included, and asks before each request whether the lease still stands.
    """

    @property
    def site(self) -> SiteConfig: ...

    @property
    def credentials(self) -> Credentials: ...

    def http(self, **options: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Open a client with the site's user agent, time-outs, proxy and a cookie jar of its own.

        `options` go to `httpx.AsyncClient`. Requests raise HostNotAllowed, LeaseLost,
        NetworkFailure, LoginTimedOut.
        """
        ...

    async def check_lease(self) -> None:
        """Raise LeaseLost if this worker must not go on. Called before every outbound step."""
        ...

    async def sending_secret(self) -> None:
        """Record that the account's static secret is about to leave, before it does.

        Call it before the first request that carries the secret or anything derived from it.
        Cheap after the first time.
        """
        ...

    async def challenge(self, challenge: Challenge) -> str:
        """Wait for a person's or a solver's answer. Raises ChallengeUnanswered."""
        ...

    async def one_time_code(self, *, digits: int = 6, period_s: int = 30) -> str:
        """Return the TOTP code for now, from the account's `totp_secret`; never one used before.

        Waits for the next time step where this step's code has been used. Raises RecipeError if
        the account has no seed.
        """
        ...

    def progress(self, stage: str) -> None:
        """Say what is being done: `logging_in` or `verifying`."""
        ...

    def trace(self, step: StepTrace) -> None:
        """Report a finished step to whoever watches (`check_site`); costs nothing otherwise."""
        ...


class Connector(Protocol):
    """How one kind of site is logged in to. Knows nothing of rows, permits or callers.

    Methods raise a `LoginFailure` that says whose fault it was. A connector holds no state
    between calls.
    """

    async def login(self, context: LoginContext) -> LoginGrant:
        """Log in and verify. Raises LoginFailure."""
        ...

    async def refresh(self, context: LoginContext, refresh_token: str) -> LoginGrant:
        """Trade a refresh token for a new grant. Raises RefreshRejected, or NotImplementedError
        where `can_refresh` is False."""
        ...

    async def probe(self, context: LoginContext, material: TokenMaterial) -> ProbeVerdict:
        """Ask the site whether a token still works, without logging in."""
        ...

    async def health(self, context: LoginContext) -> bool | None:
        """Say whether the site is up, without logging in; None where the recipe has no check."""
        ...

    async def keepalive(self, context: LoginContext, material: TokenMaterial) -> bool:
        """Touch the session so that it does not idle out; False if the site says it is gone."""
        ...

    async def logout(self, context: LoginContext, material: TokenMaterial) -> None:
        """End the session at the site, where the recipe says how."""
        ...

    def can_refresh(self, site: SiteConfig) -> bool:
        """Say whether `refresh` can work for this site."""
        ...

    def can_probe(self, site: SiteConfig) -> bool:
        """Say whether `probe` can give a verdict for this site."""
        ...

    def validate(self, recipe: Mapping[str, Any]) -> None:
        """Check a recipe. Raises InvalidRecipe with `details.errors`."""
        ...

    def secret_names(self, site: SiteConfig) -> frozenset[str]:
        """Return which of the account's secrets a login sends or signs with: what a wrong-secret
        fingerprint covers. One-time codes are out, their seed is in."""
        ...
