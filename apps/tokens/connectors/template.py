"""Texts with `${variables}`: parsed once, rendered completely or not at all.

A value that was filled in is never read as a template again, so nothing a site sends can reach
for another variable.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_PIECE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP: Final = re.compile(r"""\.([A-Za-z0-9_-]+)|\[(\d{1,6})\]|\[(?:"([^"]*)"|'([^']*)')\]""")


class TemplateError(ValueError):
    """A text is not a template, or a variable cannot be filled in; names it, never a value."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${root.path[0]}`; integers are positions in a list."""

    text: str
    root: str
    path: tuple[str | int, ...] = ()


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[str | Reference, ...]:
    """Return the literals and references of a text. Raises TemplateError."""
    parts: list[str | Reference] = []
    end = 0
    for match in _PIECE.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        parts.append("${" if match[1] is None else reference(match[1]))
        end = match.end()
    parts.append(_literal(text[end:]))
    return tuple(part for part in parts if part != "")


def reference(text: str) -> Reference:
    """Return the reference written as `root.path[0]`. Raises TemplateError."""
    text = text.strip()
    name = _NAME.match(text)
    if name is None:
        raise TemplateError(f"${{{text}}} is not a variable.")
    path: list[str | int] = []
    at = name.end()
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise TemplateError(f"${{{text}}} is not a variable.")
        key, index, double, single = step.groups()
        if index is not None:
            path.append(int(index))
        else:
            path.append(next(found for found in (key, double, single) if found is not None))
        at = step.end()
    return Reference(text, name[0], tuple(path))


def references(value: Any) -> Iterator[Reference]:
    """Yield every reference in a value, however deep; keys of mappings are plain texts.

    Raises TemplateError.
    """
    if isinstance(value, str):
        yield from (part for part in parse(value) if isinstance(part, Reference))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def roots(value: Any) -> set[str]:
    """Return the names of the variables a value needs. Raises TemplateError."""
    return {found.root for found in references(value)}


def render(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with every reference filled in; mappings and lists are gone through.

    A text that is one reference and nothing else keeps the type of what it refers to.
    Raises TemplateError if one cannot be.
    """
    return _walk(value, values, _native)


def render_text(value: Any, values: Mapping[str, Any]) -> str:
    """Return a template or a plain scalar as text. Raises TemplateError."""
    if not isinstance(value, str):
        return as_text(value, "this value")
    return "".join(
        part if isinstance(part, str) else as_text(lookup(part, values), f"${{{part.text}}}")
        for part in parse(value)
    )


def render_texts(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with every scalar in it as text. Raises TemplateError."""
    return _walk(value, values, render_text)


def lookup(wanted: Reference, values: Mapping[str, Any]) -> Any:
    """Return what a reference points to. Raises TemplateError."""
    if wanted.root not in values:
        raise TemplateError(f"variable {wanted.root!r} is not known")
    found = values[wanted.root]
    for step in wanted.path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            raise TemplateError(f"variable {wanted.text!r} is not known") from None
    if found is None:
        raise TemplateError(f"variable {wanted.text!r} is empty")
    return found


def as_text(value: Any, name: str) -> str:
    """Return a scalar as a site would write it. Raises TemplateError for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise TemplateError(f"{name} is not a text or a number; the function `json` makes it one")


def _native(text: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(text, str):
        match parse(text):
            case (Reference() as only,):
                return lookup(only, values)
        return render_text(text, values)
    return text


def _walk(
    value: Any, values: Mapping[str, Any], leaf: Callable[[Any, Mapping[str, Any]], Any]
) -> Any:
    if isinstance(value, Mapping):
        return {key: _walk(item, values, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, values, leaf) for item in value]
    return leaf(value, values)


def _literal(text: str) -> str:
    if "${" in text:
        raise TemplateError("`${` is not closed; write `$${` for a literal `${`.")
    return text
