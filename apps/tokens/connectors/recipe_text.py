"""Reads a recipe's text into plain values, and remembers on which line each of them stands."""

import json
import math
import re
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES: Final = 128 * 1024
MAX_DEPTH: Final = 24

_INDENT: Final = re.compile(r"(?m)^[ \t]+")

Path = tuple[str | int, ...]


class UnreadableText(ValueError):
    """The text is no YAML or JSON that is accepted; `line` counts from 1."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


@dataclass
class Document:
    """A parsed text: plain dicts, lists and scalars, and the line of every path in it."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """Return the line of a path, or of its nearest parent that stands in the text."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str, *, max_bytes: int = MAX_BYTES) -> Document:
    """Parse YAML 1.2 or JSON. Raises UnreadableText.

    Refused: more than `max_bytes` (128 KB) or 24 levels, anchors and aliases (a few lines of
    them can unfold into gigabytes), tags, repeated keys, several documents.
    """
    if len(text.encode("utf-8", errors="replace")) > max_bytes:
        raise UnreadableText(f"The text may have {max_bytes // 1024} KB at most.")
    # JSON may be indented with tabs, YAML may not.
    text = _INDENT.sub(lambda match: match[0].expandtabs(2), text)
    try:
        _check_events(text)
        node = YAML(typ="safe", pure=True).compose(text)
        if node is None:
            raise UnreadableText("The recipe is empty.")
        document = Document(None)
        document.value = _build(node, (), document.lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableText(
            f"{error.problem or error.context}.", mark.line + 1 if mark else 1
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UnreadableText):
            raise
        raise UnreadableText("This is neither YAML nor JSON.") from None
    return document


def write(value: Any) -> str:
    """Return plain values as YAML that `read` gives back as they were."""
    out = StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.representer.ignore_aliases = lambda *_: True
    yaml.dump(value, out)
    text = out.getvalue()
    # The writer leaves a line end of Unicode as it is, and the reader takes it for a space.
    return text if read(text).value == value else json.dumps(value, indent=2)


def _check_events(text: str) -> None:
    depth = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise UnreadableText("A recipe is one document.", line)
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise UnreadableText("Anchors and aliases are not accepted.", line)
        if isinstance(event, NodeEvent) and getattr(event, "tag", None):
            raise UnreadableText("Tags are not accepted.", line)
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UnreadableText(f"More than {MAX_DEPTH} levels.", line)


def _build(node: Node, path: Path, lines: dict[Path, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, SequenceNode):
        return [_build(item, (*path, at), lines) for at, item in enumerate(node.value)]
    if isinstance(node, ScalarNode):
        return _scalar(node)
    raise UnreadableText("This cannot stand in a recipe.", node.start_mark.line + 1)


def _mapping(node: MappingNode, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise UnreadableText("A key must be a text.", line)
        key = _text(key_node)
        if key in built:
            raise UnreadableText(f"The key {key!r} stands here twice.", line)
        lines[*path, key] = line
        built[key] = _build(value_node, (*path, key), lines)
    return built


def _scalar(node: ScalarNode) -> Any:
    text = _text(node)
    match str(node.tag).rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            # 007 stays a text: a code with leading zeros is no number.
            return int(text) if text == "0" or not text.lstrip("+-").startswith("0") else text
        case "float":
            # No number of a recipe is infinite; as a text it is refused where one is wanted.
            return number if math.isfinite(number := float(text)) else text
    return text


def _text(node: ScalarNode) -> str:
    try:
        # JSON writes characters beyond the first plane as two escapes.
        text = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError:
        text = "\0"
    if "\0" in text:
        raise UnreadableText("A text holds a broken character.", node.start_mark.line + 1)
    return text
