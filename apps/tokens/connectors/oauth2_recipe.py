"""The recipe of the OAuth2 connector as frozen values, and the variables that fill it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from apps.tokens.connectors import template
from apps.tokens.contracts import Credentials, SiteConfig
from apps.tokens.errors import RecipeError

ASSERTION_LIFETIME_S: Final = 120
NOT_SECRET: Final = frozenset({"username", "site", "token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request that asks whether something works; URL and headers still have variables."""

    name: str
    method: str
    url: str
    headers: Mapping[str, str]
    success_status: frozenset[int]
    bad_status: frozenset[int]

    @classmethod
    def parse(cls, name: str, data: Mapping[str, Any]) -> Self:
        """Return the step; success is any 2xx and a bad token is a 401 unless it says more."""
        return cls(
            name=name,
            method=data.get("method", "GET"),
            url=data["url"],
            headers=data.get("headers", {}),
            success_status=frozenset(data.get("success_status", range(200, 300))),
            bad_status=frozenset(data.get("bad_status", (401,))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionPlan:
    """How a JWT is made that stands for the account or for the client (RFC 7523)."""

    alg: str = ""
    key_id: str = ""
    issuer: str = ""
    subject: str | None = None
    audience: str = ""
    lifetime_s: int = ASSERTION_LIFETIME_S
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2Recipe:
    """A recipe that has passed the schema."""

    variables: Mapping[str, str]
    grant: str
    token_url: str
    revoke_url: str
    client_id: str
    client_auth: str
    scope: str
    audience: str
    extra: Mapping[str, str]
    refresh: bool
    assertion: AssertionPlan
    errors: Mapping[str, str]
    verify: Step | None
    probe: Step | None
    health: Step | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Return the recipe. Raises RecipeError if it was stored without passing the schema."""
        try:
            return cls._parse(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise RecipeError("The recipe does not follow the schema of oauth2.") from error

    @classmethod
    def _parse(cls, data: Mapping[str, Any]) -> Self:
        scope = data.get("scope", "")
        grant = data["grant"]
        steps = {
            name: Step.parse(name, data[name]) if name in data else None
            for name in ("verify", "probe", "health")
        }
        return cls(
            variables=data.get("variables", {}),
            grant=grant,
            token_url=data["token_url"],
            revoke_url=data.get("revoke_url", ""),
            client_id=data.get("client_id", ""),
            # A JWT bearer proves itself; naming a client beside it is optional (RFC 7521 4.1).
            client_auth=data.get("client_auth", "none" if grant == "jwt_bearer" else "basic"),
            scope=scope if isinstance(scope, str) else " ".join(scope),
            audience=data.get("audience", ""),
            extra=data.get("extra", {}),
            # RFC 6749 4.4.3 and RFC 7521 4.1: these two should give no refresh token.
            refresh=data.get("refresh", grant in {"password", "refresh_token"}),
            assertion=AssertionPlan(**data.get("assertion", {})),
            errors=data.get("errors", {}),
            **steps,
        )

    @property
    def assertion_key(self) -> str:
        """The name of the secret that signs an assertion for the account."""
        return "client_secret" if self.assertion.alg.startswith("HS") else "private_key"

    @property
    def client_secret_name(self) -> str:
        """The name of the secret that proves the client; empty where nothing does."""
        if self.client_auth == "none":
            return ""
        return "private_key" if self.client_auth == "private_key_jwt" else "client_secret"

    def secret_names(self) -> frozenset[str]:
        """Return the account's secrets that a login sends or signs with."""
        names = {self.client_secret_name} - {""}
        if self.grant in {"password", "refresh_token"}:
            names.add(self.grant)
        if self.grant == "jwt_bearer":
            names.add(self.assertion_key)
        if not self.client_id:
            names.add("client_id")
        steps = [step.headers for step in (self.verify, self.probe) if step]
        plan = self.assertion
        return frozenset(names) | self.secrets_in(
            [self._form(), steps, plan.issuer, plan.subject or "", plan.audience, plan.claims]
        )

    def refresh_sends_secret(self) -> bool:
        """Say whether trading a refresh token sends something of the account's beside it."""
        return bool(self.client_secret_name or self.secrets_in(self._form()))

    def secrets_in(self, value: Any) -> frozenset[str]:
        """Return which of the account's secrets the texts in a value name."""
        return frozenset(template.roots(value) - self.variables.keys() - NOT_SECRET)

    def _form(self) -> list[Any]:
        return [self.client_id, self.scope, self.audience, self.extra]


class Variables:
    """Fills `${name}` in the texts of one login; `$${` stands for a literal `${`.

    Constants of the recipe, `username` and `site` are in reach everywhere; the account's secrets
    only where they do not end up in a URL. Raises RecipeError naming `where` and the variable.
    """

    def __init__(self, recipe: OAuth2Recipe, site: SiteConfig, credentials: Credentials) -> None:
        self._public: dict[str, Any] = {"username": credentials.username, "site": site.slug}
        for name, text in recipe.variables.items():
            self._public[name] = _fill(text, self._public, f"variables.{name}")
        self._all = {**credentials.secrets, **self._public}

    def url(self, text: str, *, where: str) -> str:
        """Fill a text without secrets."""
        return _fill(text, self._public, where)

    def text(self, text: str, *, where: str, token: str = "") -> str:
        """Fill a text that may have secrets, and the token as `${token.bearer}`."""
        values = {**self._all, "token": {"bearer": token}} if token else self._all
        return _fill(text, values, where)

    def tree(self, value: Any, *, where: str) -> Any:
        """Fill every text in a JSON value."""
        try:
            return template.render(value, self._all)
        except template.TemplateError as error:
            raise RecipeError(f"{where}: {error}.", step=where) from error


def _fill(text: str, values: Mapping[str, Any], where: str) -> str:
    try:
        return template.render_text(text, values)
    except template.TemplateError as error:
        raise RecipeError(f"{where}: {error}.", step=where) from error
