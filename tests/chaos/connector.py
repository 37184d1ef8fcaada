"""The connector of the chaos sites: an HTTP recipe whose requests say whose they are."""

from typing import Any

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.contracts import LoginContext, LoginGrant


class Noted(HttpRecipeConnector):
    """Puts the attempt's id into `x-lab-note`, so that the lab's log can be held to the rows."""

    async def login(self, context: LoginContext) -> LoginGrant:
        return await super().login(_NotedContext(context))


class _NotedContext:
    """The worker's context, all of it, with one more header."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def http(self, **options: Any) -> Any:
        note = {"x-lab-note": str(self._context.claim.attempt_id)}
        return self._context.http(**{**options, "headers": {**options.get("headers", {}), **note}})
