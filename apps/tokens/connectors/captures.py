"""Values taken from an answer: jmespath, css, xpath, regex, header or cookie."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import jmespath
import regex
from jmespath.exceptions import JMESPathError

from apps.tokens.connectors.answers import Answer
from apps.tokens.errors import RecipeError

SOURCES: Final = ("jmespath", "css", "xpath", "header", "cookie", "regex")
MAX_SEARCHED: Final = 1_000_000
SEARCH_TIMEOUT_S: Final = 0.25


def capture(spec: Mapping[str, Any], answer: Answer) -> Any:
    """Return what a capture finds; its `default` if there is nothing, None without one.

    A `regex` beside another source searches what that source found. Raises RecipeError if an
    expression takes too long.
    """
    found = _find(spec, answer)
    if found is None:
        return spec.get("default")
    return found


def search(pattern: str, text: str) -> str | None:
    """Return the first group of the first match, or the whole match; None without a match.

    Looks at the first million characters, for a quarter of a second. Raises RecipeError.
    """
    try:
        match = _compiled(pattern).search(text[:MAX_SEARCHED], timeout=SEARCH_TIMEOUT_S)
    except TimeoutError:
        raise RecipeError(f"The expression {pattern!r} takes too long on this page.") from None
    if match is None:
        return None
    found = match[1] if match.re.groups else match[0]
    return None if found is None else str(found)


def query(expression: str, document: Any) -> Any:
    """Return what a JMESPath expression finds; None for nothing or for a document of a wrong
    shape."""
    try:
        return _jmespath(expression).search(document)
    except JMESPathError:
        return None


def _find(spec: Mapping[str, Any], answer: Answer) -> Any:
    source = next(name for name in SOURCES if name in spec)
    if source == "regex":
        return search(spec["regex"], answer.text)
    found = _READERS[source](spec[source], answer)
    if found is None or "regex" not in spec:
        return found
    return search(spec["regex"], str(found))


_READERS: Final = {
    "jmespath": lambda wanted, answer: query(wanted, answer.json),
    "css": lambda wanted, answer: answer.page.css(wanted).get(),
    "xpath": lambda wanted, answer: answer.page.xpath(wanted).get(),
    "header": lambda wanted, answer: answer.headers.get(wanted),
    "cookie": lambda wanted, answer: answer.cookie(wanted),
}


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern)


@lru_cache(maxsize=1024)
def _jmespath(expression: str) -> Any:
    return jmespath.compile(expression)
