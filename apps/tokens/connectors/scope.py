"""The variables of one run of a recipe, and which of them carry a secret."""

from collections.abc import Mapping
from typing import Any, Final

from apps.tokens.connectors import functions, template
from apps.tokens.connectors.template import TemplateError
from apps.tokens.contracts import LoginContext
from apps.tokens.errors import RecipeError

ONE_TIME_CODE: Final = "totp"


class Scope:
    """Values by name. `secret` holds the names that carry a secret of the account or something
    made from one; `codes` those that carry a one-time code; `received` those that came from the
    site or a person."""

    def __init__(self, context: LoginContext, variables: Mapping[str, Any]) -> None:
        """Start with the account and the site; the recipe's constants follow when used: a health
        check has no account, and must not need what only a login needs."""
        self._context = context
        self.step = ""
        # What the recipe defines goes before a secret of the same name.
        secrets = {
            name: value
            for name, value in context.credentials.secrets.items()
            if name not in variables
        }
        self.values: dict[str, Any] = {
            **secrets,
            "username": context.credentials.username,
            "site": context.site.slug,
        }
        self.secret: set[str] = {*secrets, ONE_TIME_CODE}
        self.codes: set[str] = {ONE_TIME_CODE}
        self.received: set[str] = set()
        self._constants = dict(variables)

    def put(self, name: str, value: Any) -> None:
        """Set a variable that came from the site or from a person: it is no secret of ours."""
        self._set(name, value)
        self.received.add(name)

    def let(self, name: str, expression: Any) -> None:
        """Set a variable to what an expression gives; it inherits what the expression carries."""
        needed = self.needs(expression)
        value = self.evaluate(expression)
        carried = [marked for marked in (self.secret, self.codes, self.received) if needed & marked]
        self._set(name, value)
        for marked in carried:
            marked.add(name)

    def needs(self, value: Any) -> set[str]:
        """Return the names of the variables in a value, constants set. Raises RecipeError."""
        try:
            names = template.roots(value)
        except TemplateError as error:
            raise self.wrong(error) from None
        for name in names - self.values.keys():
            if name in self._constants:
                # Taken out first: a constant that needs itself is then unknown, not endless.
                self.let(name, self._constants.pop(name))
        return names

    async def fetch_code(self, names: set[str]) -> None:
        """Ask for the one-time code if it is among the names and was not asked for yet."""
        if ONE_TIME_CODE in names and ONE_TIME_CODE not in self.values:
            self.values[ONE_TIME_CODE] = await self._context.one_time_code()

    def forget_code(self) -> None:
        """Ask for a new one-time code next time: this one was used."""
        self.values.pop(ONE_TIME_CODE, None)

    def text(self, value: Any) -> str:
        """Render to one text. Raises RecipeError naming step and variable."""
        return str(self._rendered(template.render_text, value))

    def texts(self, value: Any) -> Any:
        """Render every scalar of a value to a text. Raises RecipeError."""
        return self._rendered(template.render_texts, value)

    def native(self, value: Any) -> Any:
        """Render a value; a lone reference keeps its type. Raises RecipeError."""
        return self._rendered(template.render, value)

    def evaluate(self, expression: Any) -> Any:
        """Return what a template or a call `{function: argument}` gives. Raises RecipeError."""
        return self._evaluate(expression, native=False)

    def wrong(self, reason: object) -> RecipeError:
        """Return a RecipeError of the present step."""
        where = f"Step {self.step!r}" if self.step else "The recipe"
        return RecipeError(f"{where}: {reason}.", step=self.step)

    def _set(self, name: str, value: Any) -> None:
        self.values[name] = value
        for marked in (self.secret, self.codes, self.received):
            marked.discard(name)

    def _evaluate(self, expression: Any, *, native: bool) -> Any:
        if (name := called(expression)) is not None:
            argument = self._evaluate(expression[name], native=name == "json")
            try:
                return functions.call(name, argument)
            except ValueError as error:
                raise self.wrong(f"function {name!r}: {error}") from None
        if isinstance(expression, Mapping):
            return {key: self._evaluate(item, native=native) for key, item in expression.items()}
        if isinstance(expression, list | tuple):
            return [self._evaluate(item, native=native) for item in expression]
        if expression is None:
            return None
        return self.native(expression) if native else self.text(expression)

    def _rendered(self, how: Any, value: Any) -> Any:
        self.needs(value)
        try:
            return how(value, self.values)
        except TemplateError as error:
            raise self.wrong(error) from None


def called(expression: Any) -> str | None:
    """Return the function an expression calls: a mapping with one key, a function's name."""
    if isinstance(expression, Mapping) and len(expression) == 1:
        (name,) = expression
        return name if name in functions.FUNCTIONS else None
    return None
