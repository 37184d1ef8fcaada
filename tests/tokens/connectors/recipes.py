"""Short ways to write recipes and to run them against answers made up in the test."""

from collections.abc import Callable, Iterable
from typing import Any

import httpx

from apps.tokens.connectors.http_recipe import HttpRecipeConnector
from apps.tokens.connectors.schema import load_recipe
from tests.tokens.connectors.fakes import FakeContext, make_site

LOGIN = """
version: 1
variables: {base: "https://portal.example"}
steps:
  - name: page
    url: ${base}/login
    capture:
      xsrf: {css: "input[name=_xsrf]::attr(value)"}
  - name: login
    method: POST
    url: ${base}/login
    form: {user: "${username}", pass: "${password}", _xsrf: "${xsrf}"}
    failures:
      - when: {status: 401}
        is: invalid_credentials
    capture:
      token: {jmespath: data.access_token}
token:
  bearer: ${token}
"""

ONE_STEP = """
version: 1
steps:
  - name: login
    method: POST
    url: https://portal.example/login
    json: {user: "${username}", pass: "${password}"}
    capture: {token: {jmespath: token, default: none}}
    %s
token: {bearer: "${token}"}
"""


def context_for(
    text: str,
    said: Iterable[httpx.Response] | Callable[[httpx.Request], Any] | None,
    **options: Any,
) -> FakeContext:
    """Return a context for a recipe's text; `said` are the site's answers in turn, or a function
    that gives them; None lets requests leave."""
    site = make_site(recipe=load_recipe(text), **options.pop("site", {}))
    if said is None or callable(said):
        return FakeContext(site=site, handler=said, **options)
    waiting = list(said)
    return FakeContext(site=site, handler=lambda _request: waiting.pop(0), **options)


async def login(text, said, **options):
    """Log in; return the grant and the context."""
    context = context_for(text, said, **options)
    return await HttpRecipeConnector().login(context), context


def one_step(extra: str) -> str:
    """Return ONE_STEP with more keys in its step, given as flow YAML."""
    return ONE_STEP % extra
