"""A site of the OAuth2 connector for tests: its recipe, its answers, what it was sent."""

from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.tokens.connectors.fakes import FakeContext, make_credentials, make_site

GOOD = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600}


def recipe(**changes: Any) -> dict[str, Any]:
    """Return a recipe of the password grant at portal.example."""
    return {
        "version": 1,
        "variables": {"base": "https://portal.example"},
        "grant": "password",
        "token_url": "${base}/token",
        **changes,
    }


def context(
    *answers: httpx.Response | dict[str, Any],
    secrets: dict[str, str] | None = None,
    username: str = "alice",
    **changes: Any,
) -> FakeContext:
    """Return a context whose site gives these answers in turn; a dict is a 200 with JSON."""
    waiting = [
        httpx.Response(200, json=answer) if isinstance(answer, dict) else answer
        for answer in answers
    ]
    given = {"client_id": "portal", "client_secret": "cl1ent-s3cret", **(secrets or {})}
    return FakeContext(
        site=make_site(connector="oauth2", recipe=recipe(**changes)),
        credentials=make_credentials(username, **given),
        handler=lambda _request: waiting.pop(0),
    )


def form(request: httpx.Request) -> dict[str, str]:
    """Return the fields of a form that was sent."""
    return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
