"""Static checks of the small languages in a recipe: calls, templates, JMESPath, CSS, XPath."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import jmespath
import regex
from cssselect import SelectorError
from jmespath.exceptions import JMESPathError
from parsel import Selector

from apps.tokens.connectors import functions, template
from apps.tokens.connectors.recipe_text import Path
from apps.tokens.connectors.scope import called
from apps.tokens.connectors.template import TemplateError

Fault = tuple[Path, str]


def calls(value: Any, path: Path, *, named: bool = False) -> Iterator[Fault]:
    """Yield what is wrong with an expression, or with each of a mapping of expressions."""
    if named:
        for key, item in value.items():
            yield from calls(item, (*path, key), named=_is_storage(path, item))
    elif isinstance(value, Mapping):
        name = called(value)
        if name is None:
            yield path, _not_a_call(value)
        else:
            yield from _call(name, value[name], (*path, name))
    elif isinstance(value, list):
        yield path, "A list is an argument; call a function such as `concat` or `json`."


def templates(value: Any, path: Path) -> Iterator[tuple[Path, str | TemplateError]]:
    """Yield every text in a value, or why it is not a template, with where it stands."""
    if isinstance(value, str):
        try:
            template.parse(value)
        except TemplateError as error:
            yield path, error
        else:
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from templates(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from templates(item, (*path, at))


def languages(spec: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    """Yield the expressions of a capture or a condition that cannot be read."""
    for key, check in _LANGUAGES.items():
        if key in spec and not check(spec[key]):
            yield (*path, key), f"This is no {_NAMES[key]} expression that can be read."


def did_you_mean(sentence: str, word: str, known: Iterable[str]) -> str:
    """Return a sentence with the closest known word added, if one is close."""
    close = get_close_matches(word, sorted(known), n=1)
    return f"{sentence}; did you mean {close[0]!r}?" if close else f"{sentence}."


def _call(name: str, argument: Any, path: Path) -> Iterator[Fault]:
    if (inner := called(argument)) is not None:
        yield from _call(inner, argument[inner], (*path, inner))
        return
    try:
        given = functions.keywords(name, argument)
    except ValueError as error:
        yield path, f"The function {name!r}: {error}."
        return
    for key, item in given.items():
        where = (*path, key) if isinstance(argument, Mapping) else path
        if key == "value":
            yield from _inside(item, path)
            continue
        if key == "items":
            if not isinstance(item, list):
                yield where, f"The function {name!r}: items must be a list."
                continue
            for at, one in enumerate(item):
                yield from calls(one, (*where, at))
        else:
            yield from calls(item, where)


def _inside(value: Any, path: Path) -> Iterator[Fault]:
    """Yield what is wrong with the calls somewhere in the argument of `json`."""
    if (name := called(value)) is not None:
        yield from _call(name, value[name], (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _inside(item, (*path, at))


def _not_a_call(value: Mapping[str, Any]) -> str:
    if len(value) != 1:
        return "A call has one key, the name of a function."
    (name,) = value
    return did_you_mean(f"There is no function {name!r}", name, functions.FUNCTIONS)


def _is_storage(path: Path, value: Any) -> bool:
    inside = path[-1] in ("local_storage", "session_storage") and "token" in path
    return inside and isinstance(value, Mapping)


def _is_jmespath(text: str) -> bool:
    try:
        jmespath.compile(text)
    except JMESPathError:
        return False
    return True


def _is_regex(text: str) -> bool:
    try:
        regex.compile(text)
    except (regex.error, OverflowError, RecursionError):
        return False
    return True


def _is_css(text: str) -> bool:
    try:
        Selector(text="<html/>", type="html").css(text)
    except (SelectorError, ValueError):
        return False
    return True


def _is_xpath(text: str) -> bool:
    try:
        Selector(text="<html/>", type="html").xpath(text)
    except ValueError:
        return False
    return True


_LANGUAGES: Final[Mapping[str, Callable[[str], bool]]] = {
    "jmespath": _is_jmespath,
    "css": _is_css,
    "xpath": _is_xpath,
    "regex": _is_regex,
    "matches": _is_regex,
    "text_matches": _is_regex,
}
_NAMES: Final = {
    "jmespath": "JMESPath",
    "css": "CSS",
    "xpath": "XPath",
    "regex": "regular",
    "matches": "regular",
    "text_matches": "regular",
}
