"""Connectors for tests, loaded by the processes of a stack."""

import asyncio

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.contracts import LoginContext, LoginGrant


class Pausing(HttpRecipeConnector):
    """An HTTP recipe that stops before it sends anything, or after the site's last answer.

    The recipe's variables `before_s` and `after_s` say for how long.
    """

    async def login(self, context: LoginContext) -> LoginGrant:
        variables = context.site.recipe["variables"]
        await asyncio.sleep(float(variables["before_s"]))
        grant = await super().login(context)
        await asyncio.sleep(float(variables["after_s"]))
        return grant


class Leaky(HttpRecipeConnector):
    """A connector with a bug: after its login it dies with everything it knows."""

    async def login(self, context: LoginContext) -> LoginGrant:
        grant = await super().login(context)
        known = {**context.credentials.secrets, "bearer": grant.material.bearer}
        raise RuntimeError(f"cannot parse {known}, namely {[*known.values()]}")
