"""Ready recipes for the lab's sites, for the connectors `http_recipe` and `oauth2`.

`url` is the lab's base URL and `site` a site's name there. Each matches every refusal the lab
can give, so a recipe for a real site may start as a copy.
"""

from typing import Any
from urllib.parse import urlsplit

from apps.tokens.faultlab.flows.form import CSRF_COOKIE, SESSION_COOKIE, texts
from apps.tokens.faultlab.judge import Outcome

Recipe = dict[str, Any]

_AUTHORIZATION = {"Authorization": "Bearer ${token.bearer}"}
_RETRY_AFTER = {"header": "Retry-After"}


def allowed_hosts(url: str) -> tuple[str, ...]:
    """Return what a site's `allowed_hosts` must be for the lab at `url`."""
    return (urlsplit(url).netloc,)


def json_recipe(url: str, site: str, *, expiry: bool = True, refresh: bool = True) -> Recipe:
    """Return a recipe for the JSON login.

    Leave `expiry` out for a site with `expires_in: absent`, `refresh` for one without refresh
    tokens.
    """
    recipe = _base(url, site)
    recipe["steps"] = [_json_step({"username": "${username}", "password": "${password}"})]
    recipe["token"] = {"bearer": "${token}"}
    recipe["verify"] = {"url": "${base}/api/me", "headers": _AUTHORIZATION}
    recipe["probe"] = _probe(_AUTHORIZATION)
    recipe["logout"] = {"method": "POST", "url": "${base}/api/logout", "headers": _AUTHORIZATION}
    capture = recipe["steps"][0]["capture"]
    if expiry:
        capture["expires_in"] = {"jmespath": "expires_in"}
        recipe["expiry"] = {"seconds": "${expires_in}"}
    if refresh:
        capture["refresh"] = {"jmespath": "refresh_token", "default": ""}
        recipe["refresh_token"] = "${refresh}"  # noqa: S105  # a variable, not a token
        recipe["refresh"] = _refresh(expiry=expiry)
    return recipe


def totp_recipe(url: str, site: str, *, expiry: bool = True, refresh: bool = True) -> Recipe:
    """Return a recipe for the JSON login of a site with `totp_required`."""
    recipe = json_recipe(url, site, expiry=expiry, refresh=refresh)
    recipe["steps"][0]["json"]["otp"] = "${totp}"
    return recipe


def form_recipe(url: str, site: str, *, encoding: str = "utf-8") -> Recipe:
    """Return a recipe for the HTML form; `encoding` as in the site's behaviour."""
    words = texts(encoding)
    page = {
        "name": "page",
        "url": "${base}/login",
        "capture": {"csrf": {"css": "input[name=csrf_token]::attr(value)"}},
        "success": [{"status": 200}, {"cookie": CSRF_COOKIE}],
        "failures": [_rate_limited()],
    }
    login = {
        "name": "login",
        "method": "POST",
        "url": "${base}/login",
        "form": {
            "username": "${username}",
            "password": "${password}",
            "csrf_token": "${csrf}",
        },
        "success": [{"status": 302}, {"cookie": SESSION_COOKIE}],
        "failures": [
            _says(words[Outcome.WRONG_PASSWORD], "invalid_credentials"),
            _says(words[Outcome.LOCKED], "account_locked") | {"retry_after": _RETRY_AFTER},
            _says(words[Outcome.CODE_REQUIRED], "one_time_code_rejected"),
            _says(words[Outcome.CODE_REJECTED], "one_time_code_rejected"),
            _says(words[Outcome.CAPTCHA_REJECTED], "challenge_needed"),
            _rate_limited(),
        ],
    }
    if encoding != "utf-8":
        page["encoding"] = login["encoding"] = encoding
    return _base(url, site) | {
        "steps": [page, login],
        "token": {"cookies": [SESSION_COOKIE]},
        "expiry": {"cookie": SESSION_COOKIE},
        "verify": {"url": "${base}/home"},
        "probe": _probe({}),
        "logout": {"method": "POST", "url": "${base}/api/logout"},
    }


def oauth2_recipe(url: str, site: str, *, grant: str = "client_credentials") -> Recipe:
    """Return a recipe for the token endpoint, for the connector `oauth2`.

    With `client_credentials` the account's `client_id` and `client_secret` are a username and
    password of the site; with `password` its username and password are.
    """
    client = {"client_auth": "basic"}
    if grant != "client_credentials":
        client = {"client_auth": "none", "client_id": "lab"}
    base = f"{url.rstrip('/')}/{site}"
    return {
        "version": 1,
        "grant": grant,
        "token_url": f"{base}/oauth/token",
        **client,
        "errors": {"account_locked": "account_locked", "code_rejected": "one_time_code_rejected"},
        "verify": {"url": f"{base}/api/me"},
        "probe": {"url": f"{base}/api/me"},
        "health": {"url": f"{base}/health"},
    }


def _base(url: str, site: str) -> Recipe:
    return {
        "version": 1,
        "variables": {"base": f"{url.rstrip('/')}/{site}"},
        "health": {"url": "${base}/health", "timeout_s": 5},
    }


def _json_step(body: dict[str, str]) -> Recipe:
    return {
        "name": "login",
        "method": "POST",
        "url": "${base}/api/login",
        "json": body,
        "capture": {"token": {"jmespath": "access_token"}},
        "success": [{"status": 200}, {"jmespath": "access_token", "exists": True}],
        "failures": [
            _error("invalid_credentials", "invalid_credentials"),
            _error("account_locked", "account_locked") | {"retry_after": _RETRY_AFTER},
            _error("code_required", "one_time_code_rejected"),
            _error("code_rejected", "one_time_code_rejected"),
            _error("captcha_rejected", "challenge_needed"),
            _rate_limited(),
        ],
    }


def _refresh(*, expiry: bool) -> Recipe:
    step: Recipe = {
        "name": "refresh",
        "method": "POST",
        "url": "${base}/oauth/token",
        "form": {"grant_type": "refresh_token", "refresh_token": "${refresh_token}"},
        "capture": {
            "token": {"jmespath": "access_token"},
            "refresh": {"jmespath": "refresh_token", "default": ""},
        },
        "success": [{"status": 200}],
        "failures": [_error("invalid_grant", "invalid_credentials")],
    }
    recipe: Recipe = {
        "steps": [step],
        "token": {"bearer": "${token}"},
        "refresh_token": "${refresh}",
    }
    if expiry:
        step["capture"]["expires_in"] = {"jmespath": "expires_in"}
        recipe["expiry"] = {"seconds": "${expires_in}"}
    return recipe


def _probe(headers: dict[str, str]) -> Recipe:
    return {
        "url": "${base}/api/me",
        **({"headers": headers} if headers else {}),
        "success": [{"status": 200}],
        "failures": [{"when": {"status": 401}, "is": "invalid_credentials"}],
    }


def _error(word: str, verdict: str) -> Recipe:
    return {"when": {"jmespath": "error", "equals": word}, "is": verdict}


def _says(text: str, verdict: str) -> Recipe:
    return {"when": {"status": 200, "text_contains": text}, "is": verdict}


def _rate_limited() -> Recipe:
    return {"when": {"status": 429}, "is": "rate_limited", "retry_after": _RETRY_AFTER}
