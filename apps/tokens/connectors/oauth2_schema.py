"""Checks recipes of the OAuth2 connector: the JSON Schema beside this file, then the rest."""

from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, Final

from apps.tokens.connectors import schema, template
from apps.tokens.connectors.checks import Fault

# What the connector itself puts into a request or a JWT.
OWN_PARAMETERS: Final = frozenset(
    {
        "assertion",
        "audience",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "grant_type",
        "password",
        "refresh_token",
        "scope",
        "username",
    }
)
OWN_CLAIMS: Final = frozenset({"aud", "exp", "iat", "iss", "jti", "sub"})
_URLS: Final = (
    ("token_url",),
    ("revoke_url",),
    ("verify", "url"),
    ("probe", "url"),
    ("health", "url"),
)


def load_recipe(text: str) -> dict[str, Any]:
    """Return the recipe written in a YAML or JSON text.

    Raises InvalidRecipe with `details.errors`, a list of {line, path, reason}, lines from 1.
    """
    return schema.load_recipe(text, OAUTH2)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Check a recipe that is parsed already. Raises InvalidRecipe; every `line` is None."""
    schema.check_recipe(recipe, OAUTH2)


def faults(recipe: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with a recipe that has passed the schema."""
    unreadable = list(_templates(recipe, ()))
    yield from unreadable
    yield from _reserved(recipe)
    yield from _algorithms(recipe)
    if not unreadable:
        yield from _variables(recipe)


def _templates(value: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, Mapping | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in pairs:
            yield from _templates(item, (*path, key))
    elif isinstance(value, str):
        try:
            template.parse(value)
        except template.TemplateError as error:
            yield path, str(error)


def _reserved(recipe: Mapping[str, Any]) -> Iterator[Fault]:
    for name in recipe.get("extra", {}).keys() & OWN_PARAMETERS:
        yield ("extra", name), f"The connector sends {name} itself."
    for name in recipe.get("assertion", {}).get("claims", {}).keys() & OWN_CLAIMS:
        yield ("assertion", "claims", name), f"The connector sets the claim {name} itself."


def _algorithms(recipe: Mapping[str, Any]) -> Iterator[Fault]:
    alg = recipe.get("assertion", {}).get("alg", "")
    client_auth = recipe.get("client_auth", "")
    if recipe["grant"] == "jwt_bearer" and not alg:
        yield ("grant",), "The grant jwt_bearer needs assertion.alg."
    shared = alg.startswith("HS")
    if alg and client_auth == "private_key_jwt" and shared:
        yield ("assertion", "alg"), "private_key_jwt signs with an RS, PS or ES algorithm."
    if alg and client_auth == "client_secret_jwt" and not shared:
        yield ("assertion", "alg"), "client_secret_jwt signs with an HS algorithm."


def _variables(recipe: Mapping[str, Any]) -> Iterator[Fault]:
    known = {"username", "site"}
    for name, text in recipe.get("variables", {}).items():
        yield from _public(text, known, ("variables", name))
        known.add(name)
    for path in _URLS:
        value: Any = recipe
        for key in path:
            value = value.get(key, {})
        if value:
            yield from _public(value, known, path)
    # Only a request that carries the token can speak of it.
    for key in recipe.keys() - {"verify", "probe"}:
        if "token" in template.roots(recipe[key]):
            yield (key,), "There is no token yet; ${token.bearer} is for verify and probe."


def _public(text: str, known: set[str], path: tuple[str | int, ...]) -> Iterator[Fault]:
    for name in sorted(template.roots(text) - known):
        yield (
            path,
            f"There is no variable {name!r} here; URLs and variables cannot hold secrets, "
            f"because logs hold URLs.",
        )


OAUTH2: Final = schema.Format(File(__file__).with_name("oauth2_schema.json"), faults)
