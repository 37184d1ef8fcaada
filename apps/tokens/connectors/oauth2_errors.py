"""What a token endpoint's refusal means, and whose fault it was (RFC 6749 5.2)."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from apps.common import clock
from apps.tokens.connectors.oauth2_recipe import OAuth2Recipe
from apps.tokens.errors import (
    AccountLocked,
    AccountNeedsAction,
    InvalidCredentials,
    LoginFailure,
    OneTimeCodeRejected,
    RateLimited,
    RecipeError,
    RefreshRejected,
    SiteUnavailable,
    UnexpectedPage,
)

MAX_RETRY_AFTER_S: Final = 86_400.0
BY_NAME: Final[Mapping[str, type[LoginFailure]]] = {
    kind.code.removeprefix("site_") if kind is RateLimited else kind.code: kind
    for kind in (
        AccountLocked,
        AccountNeedsAction,
        InvalidCredentials,
        OneTimeCodeRejected,
        RateLimited,
        SiteUnavailable,
        UnexpectedPage,
    )
}
"""The names a recipe's `errors` may use."""

_BY_CODE: Final[Mapping[str, type[LoginFailure]]] = {
    "invalid_client": InvalidCredentials,
    # The request is what the recipe makes it.
    "invalid_request": RecipeError,
    "invalid_scope": RecipeError,
    "invalid_target": RecipeError,
    "unauthorized_client": RecipeError,
    "unsupported_grant_type": RecipeError,
    "unsupported_token_type": RecipeError,
    "server_error": SiteUnavailable,
    "temporarily_unavailable": SiteUnavailable,
    "slow_down": RateLimited,
    # OpenID Connect and many vendors: the account may not go on without a person.
    "access_denied": AccountNeedsAction,
    "consent_required": AccountNeedsAction,
    "interaction_required": AccountNeedsAction,
    "login_required": AccountNeedsAction,
    "mfa_required": AccountNeedsAction,
}
_SAYABLE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,39}")


def read_answer(
    answer: httpx.Response, recipe: OAuth2Recipe, *, step: str, refreshing: bool = False
) -> dict[str, Any]:
    """Return the JSON object of a good answer of the token endpoint.

    Raises the LoginFailure that says whose fault a refusal was. Only the standard code of an
    error is ever repeated: descriptions are the site's words and may hold anything.
    """
    refuse_overload(answer, step=step)
    data = _json_object(answer)
    if data is None:
        raise UnexpectedPage(
            f"The token endpoint answered {answer.status_code} without a JSON object.", step=step
        )
    code = data.get("error")
    if code is not None and code != "":
        raise _refusal(str(code), answer, recipe, step=step, refreshing=refreshing)
    if not answer.is_success:
        raise UnexpectedPage(
            f"The token endpoint answered {answer.status_code} without an error code.", step=step
        )
    return data


def refuse_overload(answer: httpx.Response, *, step: str) -> None:
    """Raise RateLimited for a 429 and SiteUnavailable for a 5xx, with the time to wait."""
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(step=step, retry_after_s=retry_after_s(answer))
    if answer.is_server_error:
        raise SiteUnavailable(
            f"The site answered {answer.status_code}.",
            step=step,
            retry_after_s=retry_after_s(answer),
        )


def retry_after_s(answer: httpx.Response) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 10.2.3), at most a day; None if none."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at: datetime = parsedate_to_datetime(text)
        wait_s = (at - clock.now()).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _refusal(
    code: str, answer: httpx.Response, recipe: OAuth2Recipe, *, step: str, refreshing: bool
) -> LoginFailure:
    kind = _kind(code, recipe, refreshing=refreshing)
    told = code if _SAYABLE.fullmatch(code) else "with an unknown code"
    return kind(
        f"The token endpoint refused: {told}.", step=step, retry_after_s=retry_after_s(answer)
    )


def _kind(code: str, recipe: OAuth2Recipe, *, refreshing: bool) -> type[LoginFailure]:
    if code in recipe.errors:
        return BY_NAME[recipe.errors[code]]
    if code == "invalid_grant":
        return _invalid_grant(recipe, refreshing=refreshing)
    if code == "invalid_client" and recipe.client_id and not recipe.client_secret_name:
        # The client is named by the recipe alone: no account can have got it wrong.
        return RecipeError
    return _BY_CODE.get(code, UnexpectedPage)


def _invalid_grant(recipe: OAuth2Recipe, *, refreshing: bool) -> type[LoginFailure]:
    if refreshing:
        return RefreshRejected
    if recipe.grant in {"password", "refresh_token"}:
        return InvalidCredentials
    # For an assertion it means the key, the claims or a clock: not surely a wrong secret.
    return AccountNeedsAction


def _json_object(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        data = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
