"""What most connectors share: the optional parts of the protocol, switched off."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from apps.tokens.contracts import (
    LoginContext,
    LoginGrant,
    ProbeVerdict,
    SiteConfig,
    TokenMaterial,
)


class BaseConnector(ABC):
    """A connector that can log in and nothing else; override what your site can do.

    Follows `apps.tokens.contracts.Connector`. Hold no state: one instance serves all logins of a
    process at the same time.
    """

    @abstractmethod
    async def login(self, context: LoginContext) -> LoginGrant:
        """Log in and verify. Raises LoginFailure."""

    async def refresh(self, context: LoginContext, refresh_token: str) -> LoginGrant:
        """Override together with `can_refresh`. Raises RefreshRejected."""
        raise NotImplementedError(f"{type(self).__name__} cannot refresh.")

    async def probe(self, context: LoginContext, material: TokenMaterial) -> ProbeVerdict:
        """Override together with `can_probe`."""
        return ProbeVerdict.UNCLEAR

    async def health(self, context: LoginContext) -> bool | None:
        """Return None: there is no check."""
        return None

    async def keepalive(self, context: LoginContext, material: TokenMaterial) -> bool:
        """Return True: nothing was sent, so nothing says that the session is gone."""
        return True

    async def logout(self, context: LoginContext, material: TokenMaterial) -> None:  # noqa: B027 - optional on purpose
        """Do nothing: the session ends by itself."""

    def can_refresh(self, site: SiteConfig) -> bool:
        """Return False."""
        return False

    def can_probe(self, site: SiteConfig) -> bool:
        """Return False."""
        return False

    def validate(self, recipe: Mapping[str, Any]) -> None:  # noqa: B027 - optional on purpose
        """Accept any recipe. Override to raise InvalidRecipe with `details.errors`."""

    def secret_names(self, site: SiteConfig) -> frozenset[str]:
        """Return `password`, which is all most logins send."""
        return frozenset({"password"})
