"""Checks recipes: the JSON Schema beside this file, then what a schema cannot say."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path as File
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from apps.tokens.connectors import checks
from apps.tokens.connectors.recipe_text import Document, Path, UnreadableText, read
from apps.tokens.errors import InvalidRecipe

MAX_ERRORS: Final = 50


@dataclass(frozen=True, slots=True)
class Format:
    """A format of recipes: the file of its schema, and a function that yields what a schema
    cannot say about a recipe that has passed it."""

    schema_file: File
    faults: Callable[[Mapping[str, Any]], Iterable[checks.Fault]]


HTTP_RECIPE: Final = Format(File(__file__).with_name("recipe_schema.json"), checks.faults)


def load_recipe(text: str, kind: Format = HTTP_RECIPE) -> dict[str, Any]:
    """Return the recipe written in a YAML or JSON text.

    Raises InvalidRecipe with `details.errors`, a list of {line, path, reason}, lines from 1.
    """
    try:
        document = read(text)
    except UnreadableText as error:
        raise _invalid([{"line": error.line, "path": "", "reason": str(error)}]) from None
    _check(document, kind)
    found: dict[str, Any] = document.value
    return found


def check_recipe(recipe: Mapping[str, Any], kind: Format = HTTP_RECIPE) -> None:
    """Check a recipe that is parsed already. Raises InvalidRecipe; every `line` is None.

    What was found good is remembered: a site is checked whenever it is saved, whatever changed.
    """
    plain = _plain(recipe)
    _check_once(_Written(repr(plain), plain), kind)


@dataclass(frozen=True, slots=True)
class _Written:
    """A recipe that is told from others by how it is written, the order of its keys included."""

    text: str
    value: Any = field(compare=False)


@lru_cache(maxsize=256)
def _check_once(recipe: _Written, kind: Format) -> None:
    _check(Document(recipe.value), kind, lines=False)


@cache
def schema(kind: Format = HTTP_RECIPE) -> dict[str, Any]:
    """Return the JSON Schema of a format of recipes."""
    found: dict[str, Any] = json.loads(kind.schema_file.read_text(encoding="utf-8"))
    return found


def _check(document: Document, kind: Format, *, lines: bool = True) -> None:
    faults = _schema_faults(document.value, kind)
    found = sorted(faults, key=lambda fault: document.line(fault[0]))
    if not found:
        found = list(kind.faults(document.value))
    if found:
        raise _invalid(
            [
                {
                    "line": document.line(path) if lines else None,
                    "path": written(path),
                    "reason": reason,
                }
                for path, reason in found[:MAX_ERRORS]
            ]
        )


def written(path: Path) -> str:
    """Return a path as people write it: `steps[0].capture.token`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _invalid(errors: list[dict[str, Any]]) -> InvalidRecipe:
    first = errors[0]
    where = " ".join(
        part
        for part in (f"line {first['line']}" if first["line"] else "", str(first["path"]))
        if part
    )
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRecipe(
        f"The recipe is not valid: {where}: {first['reason']}{more}", details={"errors": errors}
    )


def _schema_faults(value: Any, kind: Format) -> Iterator[checks.Fault]:
    for error in _validator(kind).iter_errors(value):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            for key in error.instance.keys() - error.schema["properties"].keys():
                yield (*path, key), _unknown(str(key), error.schema["properties"])
        elif error.validator == "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            yield path, f"{_listed(missing)} is missing."
        else:
            yield path, _reason(error)


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, list(known), n=1)
    if close:
        return f"The key {key!r} is unknown; did you mean {close[0]!r}?"
    return f"The key {key!r} is unknown; known here: {_listed(sorted(known))}."


def _reason(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            return f"This must be {_article(wanted)}."
        case "enum":
            close = get_close_matches(str(error.instance), [str(item) for item in wanted], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            return f"This must be one of {_listed(wanted)}{hint}"
        case "const":
            return f"This must be {wanted!r}."
        case "minProperties" | "minItems" | "minLength":
            return "This is empty."
        case "maxLength" | "maxItems":
            return f"This is too long: at most {wanted}."
        case "minimum" | "exclusiveMinimum" | "maximum":
            return f"This number is out of range: {error.validator} {wanted}."
        case "pattern":
            return f"This does not match {wanted}."
        case "uniqueItems":
            return "Something stands here twice."
    return "This is not allowed here."


_TYPES: Final = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


def _article(types: str | list[str]) -> str:
    names = [types] if isinstance(types, str) else types
    return " or ".join(_TYPES[name] for name in names)


def _listed(items: list[Any]) -> str:
    return ", ".join(str(item) for item in items)


def _plain(value: Any) -> Any:
    # jsonschema knows dict and list only; a mapping proxy would be neither.
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _validator(kind: Format) -> Draft202012Validator:
    return Draft202012Validator(schema(kind))
