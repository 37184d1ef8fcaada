"""Scopes as DRF permissions."""

from typing import Any, ClassVar

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from apps.access.services import principal_of, require


class HasScope(BasePermission):
    """Lets in who holds the scope of the method; make one with `scope`."""

    read_scope: ClassVar[str]
    write_scope: ClassVar[str]

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises NotAuthenticated, or NotPermitted naming the scope."""
        safe = request.method in SAFE_METHODS
        require(principal_of(request), self.read_scope if safe else self.write_scope)
        return True


def scope(*, read: str, write: str = "") -> type[HasScope]:
    """Return a permission class: `read` for GET, HEAD and OPTIONS, `write` for the rest.

    Without `write`, every method needs `read`.
    """
    fields = {"read_scope": str(read), "write_scope": str(write or read)}
    return type("HasScope", (HasScope,), fields)
