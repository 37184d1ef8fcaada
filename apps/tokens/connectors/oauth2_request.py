"""What goes to a token or revocation endpoint, built with Authlib and sent by our own client.

Authlib's own HTTP client would go around the guard of `context.http()`, so only the parts that
make bodies, client authentication and assertions are used.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from authlib.common.urls import add_params_to_qs
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import DEFAULT_HEADERS
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7009 import prepare_revoke_token_request

from apps.tokens.connectors.oauth2_assertion import CLIENT_ASSERTION_TYPE, sign_assertion
from apps.tokens.connectors.oauth2_recipe import OAuth2Recipe, Variables
from apps.tokens.contracts import Credentials
from apps.tokens.errors import RecipeError

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523 section 2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A POST that is ready to leave."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False)


class RequestMaker:
    """Makes the requests of one account at one site. Raises RecipeError for what is missing."""

    def __init__(self, recipe: OAuth2Recipe, variables: Variables, account: Credentials) -> None:
        self._recipe = recipe
        self._variables = variables
        self._account = account
        self._token_url = variables.url(recipe.token_url, where="token_url")

    def login(self) -> PreparedRequest:
        """Return the request of the recipe's grant."""
        match self._recipe.grant:
            case "password":
                return self._token_request(
                    "password",
                    username=self._account.username,
                    password=self._secret("password", "login"),
                )
            case "refresh_token":
                return self.refresh(self._secret("refresh_token", "login"), step="login")
            case "jwt_bearer":
                return self._token_request(JWT_BEARER, assertion=self._assertion())
            case grant:
                return self._token_request(grant)

    def refresh(self, refresh_token: str, *, step: str = "refresh") -> PreparedRequest:
        """Return the request that trades a refresh token."""
        return self._token_request("refresh_token", step=step, refresh_token=refresh_token)

    def revoke(self, token: str) -> PreparedRequest:
        """Return the request that ends an access token (RFC 7009)."""
        body, headers = prepare_revoke_token_request(token, "access_token", "", None)
        url = self._variables.url(self._recipe.revoke_url, where="revoke_url")
        return self._authenticated(url, {**DEFAULT_HEADERS, **headers}, body, step="logout")

    def _token_request(self, grant: str, *, step: str = "login", **values: str) -> PreparedRequest:
        extra = [
            (name, self._variables.text(text, where=f"extra.{name}"))
            for name, text in self._recipe.extra.items()
        ]
        scope = self._variables.text(self._recipe.scope, where="scope")
        audience = self._variables.text(self._recipe.audience, where="audience")
        body = prepare_token_request(grant, "", scope=scope, audience=audience, **values)
        # Not as keywords: a site's parameter may be called like one of the function's own.
        body = add_params_to_qs(body, extra)
        return self._authenticated(self._token_url, dict(DEFAULT_HEADERS), body, step=step)

    def _authenticated(
        self, url: str, headers: dict[str, str], body: str, *, step: str
    ) -> PreparedRequest:
        recipe = self._recipe
        client_id = self._client_id(step)
        secret = self._secret(recipe.client_secret_name, step) if recipe.client_secret_name else ""
        if recipe.client_auth in {"private_key_jwt", "client_secret_jwt"}:
            body = self._with_client_assertion(body, client_id, secret, step)
        elif client_id:
            auth: Any = ClientAuth(client_id, secret, _AUTH_METHODS[recipe.client_auth])
            try:
                url, headers, body = auth.prepare("POST", url, headers, body)
            except UnicodeEncodeError:
                raise RecipeError(
                    "basic_plain cannot send this client_secret; use basic or post.", step=step
                ) from None
        return PreparedRequest(url=url, headers=headers, body=body)

    def _with_client_assertion(self, body: str, client_id: str, secret: str, step: str) -> str:
        plan = self._recipe.assertion
        by_key = self._recipe.client_auth == "private_key_jwt"
        audience = self._variables.text(plan.audience, where="assertion.audience")
        assertion = sign_assertion(
            secret,
            secret_name=self._recipe.client_secret_name,
            alg=plan.alg or ("RS256" if by_key else "HS256"),
            issuer=client_id,
            subject=client_id,
            audience=audience or self._token_url,
            lifetime_s=plan.lifetime_s,
            key_id=plan.key_id,
            step=step,
        )
        return str(
            add_params_to_qs(
                body,
                [
                    ("client_id", client_id),
                    ("client_assertion_type", CLIENT_ASSERTION_TYPE),
                    ("client_assertion", assertion),
                ],
            )
        )

    def _assertion(self) -> str:
        plan, fill = self._recipe.assertion, self._variables
        issuer = fill.text(plan.issuer, where="assertion.issuer") or self._client_id("login")
        subject = self._account.username
        if plan.subject is not None:
            subject = fill.text(plan.subject, where="assertion.subject")
        return sign_assertion(
            self._secret(self._recipe.assertion_key, "login"),
            secret_name=self._recipe.assertion_key,
            alg=plan.alg,
            issuer=issuer or self._account.username,
            subject=subject,
            audience=fill.text(plan.audience, where="assertion.audience") or self._token_url,
            lifetime_s=plan.lifetime_s,
            key_id=plan.key_id,
            claims=fill.tree(plan.claims, where="assertion.claims"),
            step="login",
        )

    def _client_id(self, step: str) -> str:
        """Return the client: the recipe's, the account's, or the account itself as a client.

        Empty only where the recipe authenticates no client and none is named.
        """
        named = self._variables.text(self._recipe.client_id, where="client_id")
        if client_id := named or self._account.secrets.get("client_id", ""):
            return client_id
        if self._recipe.grant in {"client_credentials", "jwt_bearer"}:
            # With nothing to prove it by, a JWT bearer need not name a client (RFC 7521 4.1).
            proven = self._recipe.grant == "client_credentials" or self._recipe.client_secret_name
            return self._account.username if proven else ""
        if self._recipe.client_secret_name:
            raise RecipeError("Neither recipe nor account names a client_id.", step=step)
        return ""

    def _secret(self, name: str, step: str) -> str:
        if value := self._account.secrets.get(name, ""):
            return value
        raise RecipeError(f"The account has no secret named {name}.", step=step)


def _basic(
    client: ClientAuth, _method: str, url: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    # RFC 6749 2.3.1: both are form-encoded before they are joined; Authlib leaves that out.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return url, headers, body


_AUTH_METHODS: Final[Mapping[str, Any]] = {
    "basic": _basic,
    "basic_plain": "client_secret_basic",
    "post": "client_secret_post",
    "none": "none",
}
