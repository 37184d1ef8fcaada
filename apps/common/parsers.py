"""JSON from strangers, read strictly.

What two readers could understand differently (duplicate keys, NaN, other charsets, lone
surrogates, integers over 64 bits) is refused here, so that no later check and no database sees it.
"""

import json
import math
from collections.abc import Mapping
from typing import IO, Any, Final, NoReturn

from django.conf import settings
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser

from apps.common.errors import ValidationFailed

UTF8_NAMES: Final = {"utf-8", "utf8"}


class InvalidJSON(ValidationFailed):
    """The body is not JSON as RFC 8259 and RFC 7493 (I-JSON) want it."""

    code = "invalid_json"
    default_message = "The body is not valid JSON."


class BodyTooLarge(ValidationFailed):
    """The body is larger than this service reads."""

    code = "body_too_large"
    status = 413
    default_message = "The body is too large."


def parse_json(body: bytes) -> dict[str, Any] | list[Any]:
    """Return the object or array that `body` holds.

    Raises InvalidJSON (never repeating the body) and BodyTooLarge.
    """
    refuse_large(len(body))
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The body is not UTF-8 (byte {error.start}).") from None
    try:
        value = _DECODER.decode(text)
    except InvalidJSON:
        raise
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidJSON(f"The body is not valid JSON: {error.msg} at {place}.") from None
    except RecursionError:
        raise InvalidJSON("The body is nested too deeply.") from None
    except ValueError:
        raise InvalidJSON("The body holds a number that is too long.") from None
    if not isinstance(value, dict | list):
        raise InvalidJSON("The body must be a JSON object or array.")
    if "\\" in text:
        _refuse_bad_text(value)
    return value


def refuse_large(size: int) -> None:
    """Raise BodyTooLarge if `size` bytes are more than LATCHKEY_MAX_BODY_BYTES."""
    limit = settings.LATCHKEY_MAX_BODY_BYTES
    if size > limit:
        raise BodyTooLarge(
            f"The body is larger than {limit} bytes.", details={"maximum_bytes": limit}
        )


class StrictJSONParser(BaseParser):
    """DRF's door to `parse_json`."""

    media_type = "application/json"

    def parse(  # type: ignore[override]  # an array is JSON too
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | list[Any]:
        """Read at most the allowed bytes of `stream` and return what they hold."""
        _refuse_other_charset(media_type or "")
        request = (parser_context or {}).get("request")
        declared = request.META.get("CONTENT_LENGTH") if request is not None else None
        if declared and str(declared).isdecimal():
            refuse_large(int(declared))
        return parse_json(stream.read(settings.LATCHKEY_MAX_BODY_BYTES + 1))


def refuse_other_content(content_type: str) -> None:
    """Refuse what DRF would not give to this parser; for handlers that DRF does not serve.

    Raises UnsupportedMediaType, and InvalidJSON for another charset.
    """
    if content_type.partition(";")[0].strip().lower() != StrictJSONParser.media_type:
        raise UnsupportedMediaType(content_type)
    _refuse_other_charset(content_type)


def _refuse_other_charset(media_type: str) -> None:
    for parameter in media_type.lower().split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in UTF8_NAMES:
            raise InvalidJSON("The charset must be UTF-8.")


def _refuse_bad_text(value: Any) -> None:
    """Refuse escapes that no database can hold: lone surrogates and NUL."""
    try:
        plain = json.dumps(value, ensure_ascii=False)
        plain.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJSON("The body holds half of a surrogate pair.") from None
    except RecursionError:
        raise InvalidJSON("The body is nested too deeply.") from None
    if "\\u0000" in plain and _holds_nul(value):
        raise InvalidJSON("The body holds a NUL character.")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidJSON("The body names a key twice in one object.")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidJSON("The body holds a number that is too large.")
    return number


def _no_constant(name: str) -> NoReturn:
    raise InvalidJSON(f"{name} is not JSON.")


def _small(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise InvalidJSON("The body holds a number that is too large.")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_small, parse_float=_finite, parse_constant=_no_constant
)
