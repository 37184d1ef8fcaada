"""A connector that does what its site's recipe says, and remembers what it was asked to do."""

import time
from datetime import timedelta
from typing import Any

from apps.common.clock import now
from apps.tokens import errors
from apps.tokens.connectors.base import BaseConnector
from apps.tokens.contracts import LoginContext, LoginGrant, ProbeVerdict, SiteConfig, TokenMaterial

logins: list[str] = []
sent: list[tuple[str, str]] = []
refreshes: list[str] = []


def forget() -> None:
    logins.clear()
    sent.clear()
    refreshes.clear()


class ScriptedConnector(BaseConnector):
    """Recipe keys: `fail` (an error class' name, or a list of them by login; '' succeeds),
    `ttl_s`, `refresh` (new refresh token each time), `probe` (a verdict), `totp`."""

    async def login(self, context: LoginContext) -> LoginGrant:
        recipe = context.site.recipe
        await context.check_lease()
        await context.sending_secret()
        logins.append(context.credentials.username)
        sent.append((context.credentials.username, context.credentials.secrets["password"]))
        if recipe.get("totp"):
            await context.one_time_code()
        self._fail(recipe, len(logins))
        return self._grant(recipe, f"token-{len(logins)}-{context.credentials.username}")

    async def refresh(self, context: LoginContext, refresh_token: str) -> LoginGrant:
        refreshes.append(refresh_token)
        name = context.site.recipe.get("refresh_fails", "")
        if name:
            raise getattr(errors, name)()
        return self._grant(context.site.recipe, f"refreshed-{len(refreshes)}")

    async def probe(self, context: LoginContext, material: TokenMaterial) -> ProbeVerdict:
        return ProbeVerdict(context.site.recipe["probe"])

    def can_refresh(self, site: SiteConfig) -> bool:
        return bool(site.recipe.get("refresh"))

    def can_probe(self, site: SiteConfig) -> bool:
        return "probe" in site.recipe

    def _fail(self, recipe: Any, number: int) -> None:
        fail = recipe.get("fail", "")
        name = fail if isinstance(fail, str) else (fail[number - 1] if number <= len(fail) else "")
        if name == "Bug":
            raise KeyError("secret-in-a-key-error")
        if name == "Gossip":
            raise errors.AccountNeedsAction(f"It said \0\ud800: {sent[-1][1]} is too old.")
        if name:
            raise getattr(errors, name)()

    def _grant(self, recipe: Any, bearer: str) -> LoginGrant:
        ttl_s = recipe.get("ttl_s", 3600)
        return LoginGrant(
            material=TokenMaterial(bearer=bearer),
            expires_at=now() + timedelta(seconds=ttl_s),
            refresh_token=f"r-{time.monotonic_ns()}" if recipe.get("refresh") else None,
        )
