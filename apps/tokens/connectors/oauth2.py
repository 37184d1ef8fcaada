"""Logging in with OAuth 2: client credentials, password, refresh token, JWT bearer."""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from apps.common import clock, tracing
from apps.tokens.connectors.base import BaseConnector
from apps.tokens.connectors.oauth2_errors import read_answer, refuse_overload
from apps.tokens.connectors.oauth2_grant import read_grant
from apps.tokens.connectors.oauth2_recipe import OAuth2Recipe, Step, Variables
from apps.tokens.connectors.oauth2_request import PreparedRequest, RequestMaker
from apps.tokens.connectors.oauth2_schema import check_recipe
from apps.tokens.contracts import (
    LoginContext,
    LoginGrant,
    ProbeVerdict,
    SiteConfig,
    StepTrace,
    TokenMaterial,
)
from apps.tokens.errors import (
    LoginTimedOut,
    NetworkFailure,
    UnexpectedPage,
)


class OAuth2Connector(BaseConnector):
    """Trades an account's secrets for tokens at a token endpoint (RFC 6749, 7009, 7523).

    The recipe's format is in `docs/connectors/oauth2.md` and `oauth2_schema.json`.
    """

    async def login(self, context: LoginContext) -> LoginGrant:
        """Ask for a token and, where the recipe says how, see that it opens a door."""
        run = _Run(context)
        context.progress("logging_in")
        request = run.requests.login()
        async with context.http() as client:
            grant = await run.trade(client, request, step="login", secret=True)
            if run.recipe.verify:
                context.progress("verifying")
                await run.verify(client, run.recipe.verify, grant.material.bearer)
        return grant

    async def refresh(self, context: LoginContext, refresh_token: str) -> LoginGrant:
        """Trade a refresh token; a rotated one is in the grant, None means "keep the old one"."""
        run = _Run(context)
        request = run.requests.refresh(refresh_token)
        async with context.http() as client:
            return await run.trade(
                client, request, step="refresh", secret=run.recipe.refresh_sends_secret()
            )

    async def probe(self, context: LoginContext, material: TokenMaterial) -> ProbeVerdict:
        """Send the recipe's probe with the token; whatever is not an answer is unclear."""
        run = _Run(context)
        step = run.recipe.probe
        if step is None:
            return ProbeVerdict.UNCLEAR
        try:
            async with context.http() as client:
                answer = await run.send(client, step, material.bearer)
        except (NetworkFailure, LoginTimedOut, UnexpectedPage):
            return ProbeVerdict.UNCLEAR
        if answer.status_code in step.success_status:
            return ProbeVerdict.GOOD
        return ProbeVerdict.BAD if answer.status_code in step.bad_status else ProbeVerdict.UNCLEAR

    async def health(self, context: LoginContext) -> bool | None:
        """Ask the recipe's health URL, without any secret."""
        run = _Run(context)
        if run.recipe.health is None:
            return None
        try:
            async with context.http() as client:
                answer = await run.send(client, run.recipe.health)
        except (NetworkFailure, LoginTimedOut, UnexpectedPage):
            return False
        return answer.status_code in run.recipe.health.success_status

    async def logout(self, context: LoginContext, material: TokenMaterial) -> None:
        """Revoke the access token (RFC 7009), where the recipe has a `revoke_url`."""
        run = _Run(context)
        if not run.recipe.revoke_url or not material.bearer:
            return
        request = run.requests.revoke(material.bearer)
        async with context.http() as client:
            answer = await run.post(
                client, request, step="logout", secret=bool(run.recipe.client_secret_name)
            )
        refuse_overload(answer, step="logout")
        if not answer.is_success:
            read_answer(answer, run.recipe, step="logout")

    def can_refresh(self, site: SiteConfig) -> bool:
        """Say whether the grant gives refresh tokens, or the recipe says that this site does."""
        return OAuth2Recipe.parse(site.recipe).refresh

    def can_probe(self, site: SiteConfig) -> bool:
        """Say whether the recipe has a request that only a good token passes."""
        return OAuth2Recipe.parse(site.recipe).probe is not None

    def validate(self, recipe: Mapping[str, Any]) -> None:
        """Check a recipe. Raises InvalidRecipe with `details.errors`."""
        check_recipe(recipe)

    def secret_names(self, site: SiteConfig) -> frozenset[str]:
        """Return the secrets the grant, the client's authentication and the recipe name."""
        return OAuth2Recipe.parse(site.recipe).secret_names()


class _Run:
    """One call of the connector: its recipe, its variables, its requests."""

    def __init__(self, context: LoginContext) -> None:
        self.context = context
        self.recipe = OAuth2Recipe.parse(context.site.recipe)
        self.variables = Variables(self.recipe, context.site, context.credentials)
        self.requests = RequestMaker(self.recipe, self.variables, context.credentials)

    async def trade(
        self, client: httpx.AsyncClient, request: PreparedRequest, *, step: str, secret: bool
    ) -> LoginGrant:
        """Send a token request and read the grant. Raises LoginFailure."""
        asked_at = clock.now()
        with tracing.span(f"step {step}"):
            answer = await self.post(client, request, step=step, secret=secret)
            data = read_answer(answer, self.recipe, step=step, refreshing=step == "refresh")
            return read_grant(data, asked_at=asked_at, step=step)

    async def post(
        self, client: httpx.AsyncClient, request: PreparedRequest, *, step: str, secret: bool
    ) -> httpx.Response:
        """Send a form; `secret` says whether something of the account's leaves with it."""
        if secret:
            await self.context.sending_secret()
        started = time.monotonic()
        answer = await client.post(request.url, content=request.body, headers=dict(request.headers))
        self._trace(step, answer, started)
        return answer

    async def send(self, client: httpx.AsyncClient, step: Step, token: str = "") -> httpx.Response:
        """Send one step, with the token as a bearer unless its headers say otherwise."""
        headers = httpx.Headers({"Authorization": f"Bearer {token}"} if token else {})
        for name, text in step.headers.items():
            headers[name] = self.variables.text(text, where=step.name, token=token)
        url = self.variables.url(step.url, where=step.name)
        if self.recipe.secrets_in(step.headers):
            await self.context.sending_secret()
        started = time.monotonic()
        answer = await client.request(step.method, url, headers=headers)
        self._trace(step.name, answer, started)
        return answer

    async def verify(self, client: httpx.AsyncClient, step: Step, token: str) -> None:
        """Raise unless a fresh token passes: the site's fault, never the password's."""
        with tracing.span(f"step {step.name}"):
            answer = await self.send(client, step, token)
            if answer.status_code in step.success_status:
                return
            refuse_overload(answer, step=step.name)
            raise UnexpectedPage(
                f"The site gave a token and then answered it with {answer.status_code}.",
                step=step.name,
            )

    def _trace(self, step: str, answer: httpx.Response, started: float) -> None:
        asked = answer.request
        self.context.trace(
            StepTrace(
                step=step,
                method=asked.method,
                # A query may have been given a name or a key.
                url=str(asked.url.copy_with(query=None)),
                status=answer.status_code,
                took_s=time.monotonic() - started,
            )
        )
