"""Makes a request of a step; everything is filled in before anything leaves."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from apps.tokens.connectors.flow import REQUEST
from apps.tokens.connectors.scope import Scope

Step = Mapping[str, Any]
_FORBIDDEN: Final = frozenset("\r\n\0")


def variables_of(step: Step) -> list[Any]:
    """Return the parts of a step that leave with its request."""
    return [step[part] for part in REQUEST if part in step]


def build(client: httpx.AsyncClient, step: Step, scope: Scope) -> httpx.Request:
    """Return the rendered request of a step. Raises RecipeError."""
    content: dict[str, Any] = {}
    if "form" in step:
        content["data"] = scope.texts(step["form"])
    elif "json" in step:
        content["json"] = scope.native(step["json"])
    elif "body" in step:
        content["content"] = scope.text(step["body"])
    timeout = {"timeout": step["timeout_s"]} if "timeout_s" in step else {}
    try:
        return client.build_request(
            step.get("method", "GET"),
            _url(step, scope),
            headers=_headers(step, scope),
            **content,
            **timeout,
        )
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError):
        # The cause would repeat what was filled in.
        raise scope.wrong("its request cannot be written") from None


def shown_url(step: Step, request: httpx.Request, scope: Scope) -> str:
    """Return the URL of a request for people: no query, and no path that was filled in with a
    secret or with something the site gave."""
    url = request.url.copy_with(query=None, fragment=None, userinfo=b"")
    if scope.needs(step["url"]) & (scope.secret | scope.received):
        url = url.copy_with(path="/")
        return f"{url}…"
    return str(url)


def _url(step: Step, scope: Scope) -> httpx.URL:
    try:
        url = httpx.URL(scope.text(step["url"]))
    except httpx.InvalidURL:
        raise scope.wrong("its url is not valid") from None
    query = scope.texts(step.get("query", {}))
    return url.copy_merge_params(query) if query else url


def _headers(step: Step, scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = scope.texts(step.get("headers", {}))
    for name, value in headers.items():
        if not value.isascii() or _FORBIDDEN & set(value):
            raise scope.wrong(f"header {name!r} cannot be sent: only ASCII on one line")
    return headers
