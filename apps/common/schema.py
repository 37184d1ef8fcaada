"""What every operation of the API's description has in common."""

from typing import Any, Final

from apps.common.errors import ErrorType

_TEXT: Final = {"type": "string"}
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A refusal or failure: RFC 9457 problem details, and what people are told.",
    "properties": {
        "type": {**_TEXT, "format": "uri", "example": "urn:latchkey:problem:unknown_site"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "instance": {**_TEXT, "description": "The path that was asked."},
        "success": {"type": "boolean", "enum": [False]},
        "error_type": {**_TEXT, "enum": [kind.value for kind in ErrorType]},
        "code": {**_TEXT, "description": "What programs compare."},
        "message": {**_TEXT, "description": "One English sentence for a developer."},
        "details": {"type": "object", "additionalProperties": {}},
        "timestamp": {**_TEXT, "format": "date-time"},
        "user_message": {**_TEXT, "description": "For a person, in the language asked for."},
        "suggestions": {"type": "array", "items": _TEXT},
        "request_id": _TEXT,
        "retry_after_s": {"type": "number", "description": "When asking again can help."},
    },
}
PROBLEM["required"] = [name for name in PROBLEM["properties"] if name != "retry_after_s"]


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of every operation that anything else than its answers is a problem.

    A hook of drf-spectacular, in SPECTACULAR_SETTINGS["POSTPROCESSING_HOOKS"].
    """
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for entry in result["paths"].values():
        for operation in entry.values():
            if isinstance(operation, dict):
                operation["responses"]["default"] = {
                    "description": "Refused or failed.",
                    "content": content,
                }
    return result
