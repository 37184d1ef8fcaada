"""The connector that logs in as a recipe says, with HTTP requests alone."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from apps.tokens.connectors import cookies, flow, material, schema
from apps.tokens.connectors.base import BaseConnector
from apps.tokens.connectors.expiry import expires_at
from apps.tokens.connectors.runner import Runner
from apps.tokens.connectors.scope import Scope
from apps.tokens.connectors.verdicts import LOGIN, Rules
from apps.tokens.contracts import (
    LoginContext,
    LoginGrant,
    ProbeVerdict,
    SiteConfig,
    TokenMaterial,
)
from apps.tokens.errors import (
    AccountLocked,
    AccountNeedsAction,
    Blame,
    InvalidCredentials,
    LoginFailure,
    RefreshRejected,
)

VERIFY: Final = Rules(strict=True)
REFRESH: Final = Rules(unauthorized=RefreshRejected)
SESSION: Final = Rules(unauthorized=InvalidCredentials, strict=True)
# What a site says about a token that it no longer takes.
_GONE: Final = (InvalidCredentials, AccountLocked, AccountNeedsAction)


class HttpRecipeConnector(BaseConnector):
    """Follows `docs/connectors/recipes.md`."""

    async def login(self, context: LoginContext) -> LoginGrant:
        """Run `steps`, make the token, run `verify`. Raises LoginFailure."""
        recipe = context.site.recipe
        context.progress("logging_in")
        async with _opened(context, LOGIN) as run:
            run.check([*recipe["steps"], recipe.get("verify", {})], _after_run(recipe))
            await run.run(recipe["steps"])
            grant = _grant(recipe, run)
            if "verify" in recipe:
                context.progress("verifying")
                run.rules = VERIFY
                run.scope.put("token", material.as_variables(grant.material))
                await run.step(recipe["verify"], name="verify")
        return grant

    async def refresh(self, context: LoginContext, refresh_token: str) -> LoginGrant:
        """Run `refresh`. Raises RefreshRejected, or another LoginFailure."""
        section = context.site.recipe.get("refresh")
        if section is None:
            raise NotImplementedError("This recipe has no refresh.")
        recipe = {**context.site.recipe, "refresh_token": "", "refresh_expiry": {}, **section}
        async with _opened(context, REFRESH) as run:
            run.scope.put("refresh_token", refresh_token)
            run.check(section["steps"], _after_run(recipe))
            try:
                await run.run(section["steps"])
            except InvalidCredentials as error:
                raise RefreshRejected(step=error.step) from error
            return _grant(recipe, run)

    async def probe(self, context: LoginContext, material: TokenMaterial) -> ProbeVerdict:
        """Run `probe` with the token. Raises only what is our own fault."""
        try:
            known = await self._with_token(context, material, "probe")
        except _GONE:
            return ProbeVerdict.BAD
        except LoginFailure as error:
            if error.blame is Blame.OURSELVES:
                raise
            return ProbeVerdict.UNCLEAR
        return ProbeVerdict.GOOD if known else ProbeVerdict.UNCLEAR

    async def health(self, context: LoginContext) -> bool | None:
        """Run `health` without a token. Raises only what is our own fault."""
        step = context.site.recipe.get("health")
        if step is None:
            return None
        try:
            async with _opened(context, VERIFY) as run:
                await run.step(step, name="health")
        except LoginFailure as error:
            if error.blame is Blame.OURSELVES:
                raise
            return False
        return True

    async def keepalive(self, context: LoginContext, material: TokenMaterial) -> bool:
        """Run `keepalive` with the token. Raises LoginFailure if the site says neither."""
        try:
            await self._with_token(context, material, "keepalive")
        except _GONE:
            return False
        return True

    async def logout(self, context: LoginContext, material: TokenMaterial) -> None:
        """Run `logout` with the token; a session that is gone already is no failure."""
        try:
            await self._with_token(context, material, "logout", LOGOUT)
        except _GONE:
            return

    def can_refresh(self, site: SiteConfig) -> bool:
        """Say whether the recipe has a `refresh`."""
        return "refresh" in site.recipe

    def can_probe(self, site: SiteConfig) -> bool:
        """Say whether the recipe has a `probe`."""
        return "probe" in site.recipe

    def validate(self, recipe: Mapping[str, Any]) -> None:
        """Check a recipe. Raises InvalidRecipe."""
        schema.check_recipe(recipe)

    def secret_names(self, site: SiteConfig) -> frozenset[str]:
        """Return the secrets that steps, `verify` and constants name; `totp` as its seed."""
        return flow.secrets_used(site.recipe)

    async def _with_token(
        self,
        context: LoginContext,
        token: TokenMaterial,
        name: str,
        rules: Rules = SESSION,
    ) -> bool:
        """Run one step with a token's cookies and variables; False if the recipe has none."""
        step = context.site.recipe.get(name)
        if step is None:
            return False
        headers = {"User-Agent": token.user_agent} if token.user_agent else {}
        async with _opened(context, rules, headers=headers) as run:
            cookies.into_jar(run.client.cookies.jar, token.cookies)
            run.scope.put("token", material.as_variables(token))
            await run.step(step, name=name)
        return True


# Signing out usually answers with a redirect to the front page.
LOGOUT: Final = Rules(unauthorized=InvalidCredentials)


@asynccontextmanager
async def _opened(context: LoginContext, rules: Rules, **options: Any) -> AsyncIterator[Runner]:
    scope = Scope(context, context.site.recipe.get("variables", {}))
    async with context.http(**options) as client:
        yield Runner(context, client, scope, rules)


def _after_run(recipe: Mapping[str, Any]) -> dict[str, Any]:
    names = ("token", "expiry", "refresh_token", "refresh_expiry")
    return {name: recipe[name] for name in names if name in recipe}


def _grant(recipe: Mapping[str, Any], run: Runner) -> LoginGrant:
    jar, scope = run.client.cookies.jar, run.scope
    made = material.make(recipe["token"], scope=scope, jar=jar, site=run.context.site)
    expiry, later = recipe.get("expiry", {}), recipe.get("refresh_expiry", {})
    token = recipe.get("refresh_token", "")
    return LoginGrant(
        material=made,
        expires_at=expires_at(expiry, scope=scope, jar=jar, sent_at=run.sent_at),
        idle_ttl_s=expiry.get("idle_ttl_s"),
        refresh_token=str(scope.evaluate(token)) or None if token else None,
        refresh_expires_at=expires_at(later, scope=scope, jar=jar, sent_at=run.sent_at),
    )
