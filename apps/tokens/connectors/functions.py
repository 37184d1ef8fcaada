"""Functions a recipe may call: `{function: argument}` or `{function: {name: argument}}`.

The first parameter of each takes a lone argument. All arguments are texts, except `items` and
`value`. A function raises ValueError with a sentence that never repeats an argument.
"""

import base64 as b64
import hashlib
import hmac
import inspect
import json as jsonlib
import secrets
import string
import time
import uuid as uuidlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from apps.tokens.connectors import ciphers

MAX_NONCE: Final = 256


def call(name: str, argument: Any) -> str:
    """Return what the function makes of its evaluated argument. Raises ValueError."""
    function = FUNCTIONS[name]
    try:
        return function(**keywords(name, argument))
    except (UnicodeError, LookupError, TypeError):
        # The cause would repeat the text, which may be a password.
        raise ValueError("its argument cannot be read this way") from None


def keywords(name: str, argument: Any) -> dict[str, Any]:
    """Return an argument as keyword arguments of the function.

    Raises ValueError if one is unknown or missing.
    """
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    first = next(iter(parameters), "")
    if isinstance(argument, Mapping) and first != "value":
        given = dict(argument)
    else:
        given = {} if argument is None else {first: argument}
    if unknown := given.keys() - parameters.keys():
        takes = ", ".join(parameters) or "nothing"
        raise ValueError(
            f"it does not take {', '.join(sorted(unknown)) or 'that'}; it takes {takes}"
        )
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            raise ValueError(f"it needs {key}")
    return given


def base64(text: str, *, encoding: str = "utf-8") -> str:
    return b64.b64encode(text.encode(encoding)).decode()


def base64url(text: str, *, encoding: str = "utf-8") -> str:
    return b64.urlsafe_b64encode(text.encode(encoding)).decode().rstrip("=")


def unbase64(text: str, *, encoding: str = "utf-8") -> str:
    return ciphers.from_base64(text).decode(encoding)


def url(text: str, *, encoding: str = "utf-8") -> str:
    return quote(text, safe="", encoding=encoding)


def hex_(text: str, *, encoding: str = "utf-8") -> str:
    return text.encode(encoding).hex()


def unhex(text: str, *, encoding: str = "utf-8") -> str:
    return ciphers.from_hex(text).decode(encoding)


def _digest(algorithm: str, text: str, *, encoding: str = "utf-8", output: str = "hex") -> str:
    # Sites ask for md5 and sha1; nothing of ours is protected by them.
    made = hashlib.new(algorithm, text.encode(encoding), usedforsecurity=False)
    return ciphers.written(made.digest(), output)


def _hmac(
    algorithm: str,
    text: str,
    *,
    key: str,
    key_format: str = "text",
    encoding: str = "utf-8",
    output: str = "hex",
) -> str:
    readers: dict[str, Callable[[str], bytes]] = {
        "text": lambda given: given.encode(encoding),
        "hex": ciphers.from_hex,
        "base64": ciphers.from_base64,
    }
    if key_format not in readers:
        raise ValueError("key_format must be text, hex or base64")
    made = hmac.new(readers[key_format](key), text.encode(encoding), algorithm)
    return ciphers.written(made.digest(), output)


def sm3(text: str, *, encoding: str = "utf-8", output: str = "hex") -> str:
    return ciphers.written(ciphers.sm3_digest(text.encode(encoding)), output)


def timestamp_s() -> str:
    return str(int(time.time()))


def timestamp_ms() -> str:
    return str(time.time_ns() // 1_000_000)


def uuid() -> str:
    return str(uuidlib.uuid4())


def nonce(length: str = "16") -> str:
    count = int(length) if length.isascii() and length.isdigit() else 0
    if not 1 <= count <= MAX_NONCE:
        raise ValueError(f"length must be 1 to {MAX_NONCE}")
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count))


def lower(text: str) -> str:
    return text.lower()


def upper(text: str) -> str:
    return text.upper()


def trim(text: str) -> str:
    return text.strip()


def reverse(text: str) -> str:
    return text[::-1]


def join(items: list[str], *, separator: str = "") -> str:
    if not isinstance(items, list):
        raise ValueError("items must be a list")  # noqa: TRY004 - the callers know ValueError only
    return separator.join(items)


def json(value: Any) -> str:
    return jsonlib.dumps(value, ensure_ascii=False, separators=(",", ":"))


FUNCTIONS: Final[Mapping[str, Callable[..., str]]] = {
    "base64": base64,
    "base64url": base64url,
    "unbase64": unbase64,
    "url": url,
    "hex": hex_,
    "unhex": unhex,
    **{name: partial(_digest, name) for name in ("md5", "sha1", "sha256", "sha512")},
    **{f"hmac_{name}": partial(_hmac, name) for name in ("md5", "sha1", "sha256", "sha512")},
    "rsa": ciphers.rsa,
    "sm2": ciphers.sm2,
    "sm3": sm3,
    "timestamp_s": timestamp_s,
    "timestamp_ms": timestamp_ms,
    "uuid": uuid,
    "nonce": nonce,
    "lower": lower,
    "upper": upper,
    "trim": trim,
    "reverse": reverse,
    "concat": join,
    "join": join,
    "json": json,
}
