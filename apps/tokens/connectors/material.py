"""Makes a token of what a run captured, and variables of a token."""

from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import Any

from apps.tokens.connectors import cookies
from apps.tokens.connectors.scope import Scope
from apps.tokens.contracts import Cookie, SiteConfig, TokenMaterial
from apps.tokens.errors import UnexpectedPage

Texts = Mapping[str, str]


def make(
    spec: Mapping[str, Any], *, scope: Scope, jar: CookieJar, site: SiteConfig
) -> TokenMaterial:
    """Return the token a recipe describes.

    Raises UnexpectedPage if a part of it is empty or a cookie is missing: the site said yes and
    gave nothing, which is no login.
    """
    scope.step = "token"
    return TokenMaterial(
        bearer=_filled("bearer", scope.evaluate(spec["bearer"])) if "bearer" in spec else "",
        headers=_texts("headers", spec.get("headers", {}), scope),
        cookies=_cookies(spec["cookies"], jar) if "cookies" in spec else (),
        local_storage=_storage("local_storage", spec, scope),
        session_storage=_storage("session_storage", spec, scope),
        user_agent=site.user_agent,
        proxy=site.proxy,
    )


def as_variables(material: TokenMaterial) -> dict[str, Any]:
    """Return a token as `${token…}` has it; cookies by name."""
    return {
        "bearer": material.bearer,
        "headers": dict(material.headers),
        "cookies": {cookie.name: cookie.value for cookie in material.cookies},
        "local_storage": {origin: dict(kept) for origin, kept in material.local_storage.items()},
        "session_storage": {
            origin: dict(kept) for origin, kept in material.session_storage.items()
        },
    }


def _storage(part: str, spec: Mapping[str, Any], scope: Scope) -> Mapping[str, Texts]:
    return {origin: _texts(part, kept, scope) for origin, kept in spec.get(part, {}).items()}


def _texts(part: str, spec: Mapping[str, Any], scope: Scope) -> Texts:
    return {name: _filled(f"{part}.{name}", scope.evaluate(value)) for name, value in spec.items()}


def _filled(part: str, value: Any) -> str:
    if value in ("", None):
        raise UnexpectedPage(f"The login succeeded, but the token's {part} is empty.", step="token")
    return str(value)


def _cookies(wanted: str | list[str], jar: CookieJar) -> tuple[Cookie, ...]:
    found = cookies.from_jar(jar)
    if wanted == "all":
        names = {cookie.name for cookie in found}
        missing = [] if found else ["any cookie"]
    else:
        names = set(wanted)
        missing = sorted(names - {cookie.name for cookie in found})
    if missing:
        said = f"The login succeeded, but the site did not set {', '.join(missing)}."
        raise UnexpectedPage(said, step="token")
    return tuple(cookie for cookie in found if cookie.name in names)
