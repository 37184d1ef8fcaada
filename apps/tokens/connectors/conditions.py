"""What a recipe can ask about an answer."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from apps.tokens.connectors.answers import Answer
from apps.tokens.connectors.captures import query, search
from apps.tokens.connectors.template import as_text

Condition = Mapping[str, Any]
# How jmespath and header compare what they find; without one of these it must exist.
COMPARISONS: Final = ("equals", "in", "exists", "matches")

# The keys whose texts may hold variables; expressions are taken as they are.
RENDERED: Final = ("text_contains", "equals", "in", "url_contains")


def rendered(condition: Condition, fill: Callable[[Any], Any]) -> Condition:
    """Return a condition with its variables filled in."""
    made = dict(condition)
    for key in RENDERED:
        if made.get(key) is not None:
            made[key] = fill(made[key])
    for key in ("any", "all"):
        if key in made:
            made[key] = [rendered(item, fill) for item in made[key]]
    if "not" in made:
        made["not"] = rendered(made["not"], fill)
    return made


def compared(condition: Condition) -> Condition:
    """Return only the parts of a condition that may hold variables, in the same places."""
    kept: dict[str, Any] = {
        key: condition[key] for key in RENDERED if condition.get(key) is not None
    }
    for key in ("any", "all"):
        if key in condition:
            kept[key] = [compared(item) for item in condition[key]]
    if "not" in condition:
        kept["not"] = compared(condition["not"])
    return kept


def holds(condition: Condition, answer: Answer) -> bool:
    """Say whether all keys of a (rendered) condition hold. Raises RecipeError for a slow regex."""
    return all(_TESTS[key](condition, answer) for key in condition if key not in COMPARISONS)


def all_hold(conditions: Iterable[Condition], answer: Answer) -> bool:
    """Say whether every condition holds."""
    return all(holds(condition, answer) for condition in conditions)


def names_status(condition: Condition) -> bool:
    """Say whether a condition asks for a status, itself or in what it is made of."""
    inner = [*condition.get("any", []), *condition.get("all", [])]
    return "status" in condition or any(names_status(item) for item in inner)


def _status(condition: Condition, answer: Answer) -> bool:
    wanted = condition["status"]
    return any(_is_status(item, answer.status) for item in _listed(wanted))


def _is_status(wanted: int | str, status: int) -> bool:
    if isinstance(wanted, str):  # 2xx
        return status // 100 == int(wanted[0])
    return status == wanted


def _compare(condition: Condition, found: Any) -> bool:
    if "exists" in condition and (found is not None) != condition["exists"]:
        return False
    if "equals" in condition and not _same(found, condition["equals"]):
        return False
    if "in" in condition and not any(_same(found, item) for item in condition["in"]):
        return False
    if "matches" in condition:
        return found is not None and search(condition["matches"], str(found)) is not None
    return found is not None or "exists" in condition or "equals" in condition


def _same(found: Any, wanted: Any) -> bool:
    # A page says 0 where its JSON says "0", and true is not 1.
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted or (isinstance(wanted, str) and _text(found) == wanted)
    if isinstance(found, int | float | str) and isinstance(wanted, int | float | str):
        return found == wanted or str(found) == str(wanted)
    return bool(found == wanted)


def _text(value: Any) -> str:
    return as_text(value, "value") if isinstance(value, bool | int | float | str) else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_TESTS: Final[Mapping[str, Callable[[Condition, Answer], bool]]] = {
    "status": _status,
    "text_contains": lambda of, answer: any(
        text in answer.text for text in _listed(of["text_contains"])
    ),
    "text_matches": lambda of, answer: search(of["text_matches"], answer.text) is not None,
    "jmespath": lambda of, answer: _compare(of, query(of["jmespath"], answer.json)),
    "header": lambda of, answer: _compare(of, answer.headers.get(of["header"])),
    "cookie": lambda of, answer: answer.cookie(of["cookie"]) is not None,
    "css": lambda of, answer: bool(answer.page.css(of["css"])),
    "url_contains": lambda of, answer: of["url_contains"] in answer.url,
    "any": lambda of, answer: any(holds(item, answer) for item in of["any"]),
    "all": lambda of, answer: all_hold(of["all"], answer),
    "not": lambda of, answer: not holds(of["not"], answer),
}
