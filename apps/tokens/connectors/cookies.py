"""Cookies between the client's jar and a token."""

from collections.abc import Iterable
from datetime import UTC, datetime
from http.cookiejar import Cookie as JarCookie
from http.cookiejar import CookieJar
from typing import Final

from apps.tokens.contracts import Cookie

# The standard library's jar adds this to hosts without a dot, such as localhost.
_LOCAL: Final = ".local"


def from_jar(jar: CookieJar) -> tuple[Cookie, ...]:
    """Return all cookies of a jar that have not expired."""
    return tuple(_cookie(found) for found in jar if not found.is_expired())


def into_jar(jar: CookieJar, cookies: Iterable[Cookie]) -> None:
    """Put a token's cookies into a jar, so that they go where they came from."""
    for cookie in cookies:
        jar.set_cookie(_jar_cookie(cookie))


def _cookie(found: JarCookie) -> Cookie:
    rest = {name.lower(): value for name, value in vars(found).get("_rest", {}).items()}
    return Cookie(
        name=found.name,
        value=found.value or "",
        domain=_domain(found),
        path=found.path,
        expires=_time(found.expires),
        secure=found.secure,
        http_only="httponly" in rest,
        same_site=(rest.get("samesite") or "").capitalize(),
    )


def _domain(found: JarCookie) -> str:
    host = found.domain.removesuffix(_LOCAL)
    added = not found.domain_specified and host and "." not in host
    return host if added else found.domain


def _time(expires: int | None) -> datetime | None:
    if expires is None:
        return None
    try:
        return datetime.fromtimestamp(expires, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _jar_cookie(cookie: Cookie) -> JarCookie:
    plain = cookie.domain and "." not in cookie.domain
    domain = cookie.domain + _LOCAL if plain else cookie.domain
    return JarCookie(
        version=0,
        name=cookie.name,
        value=cookie.value,
        port=None,
        port_specified=False,
        domain=domain,
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=cookie.path,
        path_specified=True,
        secure=cookie.secure,
        expires=int(cookie.expires.timestamp()) if cookie.expires else None,
        discard=cookie.expires is None,
        comment=None,
        comment_url=None,
        rest={},
    )
