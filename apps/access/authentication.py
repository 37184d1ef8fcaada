"""API keys for DRF: `Authorization: Bearer lk_…` or `X-API-Key: lk_…`."""

from dataclasses import dataclass
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.access.contracts import Principal
from apps.access.services import authenticate


@dataclass(frozen=True, slots=True)
class KeyUser:
    """The user behind a key, as far as DRF asks for it.

    No row is read, so keys work while the database is down; and no Django permission is held,
    so a key never gets more than its scopes say.
    """

    pk: int
    username: str
    is_authenticated: bool = True
    is_anonymous: bool = False
    is_active: bool = True
    is_staff: bool = False
    is_superuser: bool = False

    @property
    def id(self) -> int:
        return self.pk

    def get_username(self) -> str:
        return self.username

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """A key has scopes, no permissions."""
        return False

    def has_perms(self, perms: Any, obj: object = None) -> bool:
        return False


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to a Principal; leaves requests without a key to the next class."""

    def authenticate(self, request: Request) -> tuple[KeyUser, Principal] | None:
        """Raises NotAuthenticated for a wrong key, DatabaseUnavailable."""
        raw = raw_key(request)
        if raw is None:
            return None
        principal = authenticate(raw)
        return KeyUser(pk=principal.user_id, username=principal.username), principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def raw_key(request: Request) -> str | None:
    """Return the key a request carries, '' for an empty one, None without one."""
    scheme, _, value = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(value.strip())
    header = request.META.get("HTTP_X_API_KEY")
    return None if header is None else str(header.strip())


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema names API keys."""

    target_class = "apps.access.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "lk_<prefix>_<secret>",
            "description": "An API key. `X-API-Key: lk_…` works as well.",
        }
