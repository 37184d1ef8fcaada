"""Who may look at the performance, and who may act on it."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from apps.access.contracts import ANY_SITE, Principal, Scope
from apps.access.services import principal_of, require
from apps.common.errors import NotPermitted
from apps.tokens.errors import UnknownSite

READERS = (Scope.OPERATE, Scope.REQUESTS_READ)


class WatchesOrOperates(BasePermission):
    """Reading needs `operate` or `requests:read`, everything else `operate`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises NotAuthenticated, or NotPermitted naming the scope."""
        principal = principal_of(request)
        if request.method in SAFE_METHODS:
            require_reader(principal)
        else:
            require(principal, Scope.OPERATE)
        return True


def require_reader(principal: Principal) -> None:
    """Raise NotPermitted unless the caller may look at metrics."""
    if not any(principal.has(scope) for scope in READERS):
        raise NotPermitted(
            f"This needs one of the scopes {', '.join(READERS)}.",
            details={"scope": str(Scope.REQUESTS_READ)},
        )


def require_site(principal: Principal, site: str | None) -> None:
    """Let a caller see the metrics of a site that its grants cover as a whole.

    The metrics of the whole installation need a grant for all sites. Raises UnknownSite, or
    NotPermitted where no site was named.
    """
    if principal.may_read(site=site or ANY_SITE, account=""):
        return
    if site:
        raise UnknownSite
    raise NotPermitted("Your key has no grant for all sites: name one with site_name.")
