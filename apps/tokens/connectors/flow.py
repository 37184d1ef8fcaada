"""Which variables can exist where in a recipe.

A name is wrong where no way through the steps can have set it. Steps run in order; a challenge
may jump. A jump forward brings its variables along; a jump back does not help the first pass, so
what only it sets needs a first value in `variables`.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Final

from apps.tokens.connectors import expressions
from apps.tokens.connectors.conditions import compared
from apps.tokens.connectors.recipe_text import Path
from apps.tokens.connectors.template import TemplateError, references, roots

Fault = tuple[Path, str]
Recipe = Mapping[str, Any]

# Secrets every recipe may name; others are declared, so that a misspelt name is noticed.
KNOWN_SECRETS: Final = frozenset(
    {"password", "totp_secret", "client_id", "client_secret", "private_key"}
)
RESERVED: Final = frozenset({"username", "site", "totp", "password", "totp_secret"})
REQUEST: Final = ("url", "headers", "query", "form", "json", "body")
SINGLES: Final = ("verify", "probe", "health", "keepalive", "logout")
TOKEN_PARTS: Final = ("bearer", "headers", "cookies", "local_storage", "session_storage")


def all_steps(recipe: Recipe) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every step of a recipe and where it stands."""
    for prefix, section in (((), recipe), (("refresh",), recipe.get("refresh", {"steps": []}))):
        for at, step in enumerate(section["steps"]):
            yield (*prefix, "steps", at), step
    for name in SINGLES:
        if name in recipe:
            yield (name,), recipe[name]


def defined(recipe: Recipe) -> set[str]:
    """Return every name that the recipe itself sets somewhere."""
    names = set(recipe.get("variables", {}))
    for _path, step in all_steps(recipe):
        names |= step.get("let", {}).keys() | step.get("capture", {}).keys()
        for challenge in _challenges(step):
            names |= {challenge["answer"], *challenge.get("capture", {})}
    return names


def secrets_used(recipe: Recipe) -> frozenset[str]:
    """Return which of the account's secrets a login sends or signs with; `totp` as its seed."""
    used = roots(recipe.get("variables", {}))
    for step in (*recipe["steps"], recipe.get("verify", {})):
        used |= roots([step.get(part, "") for part in ("let", *REQUEST)])
    if "totp" in used:
        used.add("totp_secret")
    own = {"username", "site", "totp", "token", "refresh_token"}
    return frozenset(used - own - defined(recipe))


def faults(recipe: Recipe) -> Iterator[Fault]:
    """Yield every variable that cannot exist where it is used, and every name that is taken."""
    checker = _Checker(recipe)
    yield from checker.names()
    constants: set[str] = set()
    account = {"username", "site"} | checker.secrets
    for name, value in recipe.get("variables", {}).items():
        yield from checker.check(value, account | constants, ("variables", name))
        constants.add(name)
    base = account | constants
    yield from _login(checker, recipe, base)
    if "refresh" in recipe:
        yield from _refresh(checker, recipe, base)
    for name in SINGLES[1:]:
        if name in recipe:
            reach = base | {"token"} if name != "health" else _without_account(recipe)
            yield from checker.step(recipe[name], reach, (name,))


def _login(checker: "_Checker", recipe: Recipe, base: set[str]) -> Iterator[Fault]:
    known = yield from checker.steps(recipe["steps"], base | {"totp"}, ())
    for name in ("token", "expiry", "refresh_token", "refresh_expiry"):
        yield from checker.check(recipe.get(name, ""), known - {"totp"}, (name,))
    if "verify" in recipe:
        reach = (known - {"totp"}) | {"token"}
        yield from checker.step(recipe["verify"], reach, ("verify",))


def _refresh(checker: "_Checker", recipe: Recipe, base: set[str]) -> Iterator[Fault]:
    section = recipe["refresh"]
    path: Path = ("refresh",)
    known = yield from checker.steps(section["steps"], base | {"refresh_token"}, path)
    for name in ("token", "expiry", "refresh_token", "refresh_expiry"):
        inherited = name not in section and name in ("token", "expiry")
        value = recipe.get(name, "") if inherited else section.get(name, "")
        where = path if inherited else (*path, name)
        for at, reason in checker.check(value, known, where):
            hint = f" (the login's `{name}` is used here)" if inherited else ""
            yield (path if inherited else at), reason + hint


def _without_account(recipe: Recipe) -> set[str]:
    """Return what a health check can reach: the site, and constants made of nothing else."""
    reach = {"site"}
    for name, value in recipe.get("variables", {}).items():
        if _safe_roots(value) <= reach:
            reach.add(name)
    return reach


class _Checker:
    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._declared = set(recipe.get("secrets", []))
        self._defined = defined(recipe)
        self.secrets = (KNOWN_SECRETS | self._declared) - self._defined
        self._token_parts = set(recipe["token"])

    def names(self) -> Iterator[Fault]:
        """Yield names the recipe sets although they belong to the account."""
        taken = RESERVED | self._declared
        for path, names in self._naming():
            for name in names:
                if name in taken:
                    yield (*path, name), f"The name {name!r} is taken; choose another."

    def _naming(self) -> Iterator[tuple[Path, Iterable[str]]]:
        yield ("variables",), self._recipe.get("variables", {})
        for path, step in all_steps(self._recipe):
            yield (*path, "let"), step.get("let", {})
            yield (*path, "capture"), step.get("capture", {})
            for challenge in _challenges(step):
                yield (*path, "failures"), [challenge["answer"], *challenge.get("capture", {})]

    def steps(
        self, steps: list[Any], known: set[str], path: Path
    ) -> Generator[Fault, None, set[str]]:
        """Yield the faults of steps in order; return what is known after the last."""
        known = set(known)
        brought: dict[str, set[str]] = {}
        places = {step["name"]: at for at, step in enumerate(steps)}
        for at, step in enumerate(steps):
            known |= brought.get(step["name"], set())
            yield from self.step(step, known, (*path, "steps", at))
            known |= step.get("let", {}).keys()
            for challenge in _challenges(step):
                if places.get(challenge["resume"], -1) > at:
                    brings = known | {challenge["answer"], *challenge.get("capture", {})}
                    brought.setdefault(challenge["resume"], set()).update(brings)
            known |= step.get("capture", {}).keys()
        return known

    def step(self, step: Mapping[str, Any], known: set[str], path: Path) -> Iterator[Fault]:
        known = set(known)
        for name, expression in step.get("let", {}).items():
            yield from self.check(expression, known, (*path, "let", name))
            known.add(name)
        for part in REQUEST:
            yield from self.check(step.get(part, ""), known, (*path, part))
        yield from self.check(
            [compared(item) for item in step.get("success", [])], known, (*path, "success")
        )
        for at, failure in enumerate(step.get("failures", [])):
            where = (*path, "failures", at)
            yield from self.check(compared(failure["when"]), known, (*where, "when"))
            if challenge := failure.get("challenge"):
                reach = known | challenge.get("capture", {}).keys()
                shown = {"prompt": challenge["prompt"], "image": challenge.get("image", {})}
                shown["image"] = {"url": shown["image"].get("url", "")}
                yield from self.check(shown, reach, (*where, "challenge"))

    def check(self, value: Any, known: set[str], path: Path) -> Iterator[Fault]:
        for where, text in expressions.templates(value, path):
            if isinstance(text, TemplateError):
                yield where, str(text)
                continue
            for wanted in references(text):
                if wanted.root not in known:
                    yield where, self._unknown(wanted.root, known)
                elif wanted.root == "token" and path[0] in SINGLES:
                    yield from self._token_path(wanted.path, where)

    def _token_path(self, path: Path, where: Path) -> Iterator[Fault]:
        if not path or path[0] not in TOKEN_PARTS:
            yield where, f"`token` has the parts {', '.join(TOKEN_PARTS)}: say ${{token.bearer}}."
        elif path[0] not in self._token_parts:
            yield where, f"This recipe's token has no {path[0]}."

    def _unknown(self, name: str, known: set[str]) -> str:
        if name == "totp":
            return "A one-time code can be asked for in login steps only."
        if name in self._defined:
            return f"The variable {name!r} cannot have a value here; it is set elsewhere or later."
        if name in self.secrets or name == "username":
            return f"{name!r} belongs to an account, and there is none here."
        sentence = f"The variable {name!r} is unknown"
        hint = " A secret of the account with another name is listed under `secrets`."
        return expressions.did_you_mean(sentence, name, known) + hint


def _challenges(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item["challenge"] for item in step.get("failures", []) if "challenge" in item]


def _safe_roots(value: Any) -> set[str]:
    try:
        return roots(value)
    except TemplateError:
        return {"?"}
