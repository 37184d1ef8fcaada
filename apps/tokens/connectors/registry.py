"""Which connectors there are, by the name a site uses."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from apps.tokens.contracts import Connector
from apps.tokens.errors import RecipeError

# Loaded when first used: a worker that runs no OAuth2 site does not pay for its library.
BUILT_IN: Final[Mapping[str, str]] = {
    "http_recipe": "apps.tokens.connectors.http_recipe.HttpRecipeConnector",
    "oauth2": "apps.tokens.connectors.oauth2.OAuth2Connector",
}
_METHODS: Final = (
    "login",
    "refresh",
    "probe",
    "health",
    "keepalive",
    "logout",
    "can_refresh",
    "can_probe",
    "validate",
    "secret_names",
)


def names() -> tuple[str, ...]:
    """Return all names a site may use as its connector, sorted."""
    return tuple(sorted({**BUILT_IN, **_registered()}))


def connector_for(name: str) -> Connector:
    """Return the connector of this name; one instance a process.

    Raises RecipeError if there is none, or if its class cannot be loaded.
    """
    path = BUILT_IN.get(name) or _registered().get(name)
    if path is None:
        raise RecipeError(f"There is no connector {name!r}; there are: {', '.join(names())}.")
    try:
        return _load(path)
    except (ImportError, TypeError) as error:
        raise RecipeError(f"The connector {name!r} cannot be loaded from {path}.") from error


def check_connectors(**_kwargs: Any) -> list[CheckMessage]:
    """Check LATCHKEY_CONNECTORS at start: every class must load and have all methods."""
    found: list[CheckMessage] = []
    for name, path in _registered().items():
        if reason := _fault(name, path):
            found.append(
                Error(
                    f"LATCHKEY_CONNECTORS: {name!r} → {path!r}: {reason}",
                    hint="See docs/connectors/python.md.",
                    id="tokens.E001",
                )
            )
    return found


def _fault(name: str, path: str) -> str:
    if name in BUILT_IN:
        return "this name belongs to a built-in connector; choose another."
    try:
        connector = _load(path)
    except ImportError as error:
        return f"it cannot be imported: {error}."
    except TypeError as error:
        return f"it cannot be made without arguments: {error}."
    missing = [method for method in _METHODS if not callable(getattr(connector, method, None))]
    if missing:
        return f"it lacks {', '.join(missing)}; derive it from BaseConnector."
    return ""


def _registered() -> Mapping[str, str]:
    return cast(Mapping[str, str], getattr(settings, "LATCHKEY_CONNECTORS", {}))


@cache
def _load(path: str) -> Connector:
    return cast(Connector, import_string(path)())
