"""Keeps secrets out of logs and answers, at the last moment before they leave.

Three nets: by the name of a key, by the shape of a text, and by the very values a login uses
(`guard`). Everything a log handler or a problem writes passes `redact`.
"""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "[redacted]"
MAX_DEPTH: Final = 8
MAX_TEXT: Final = 20_000
# An exception often leaves the `with guard(...)` before somebody logs it.
LINGER_S: Final = 60.0
SHORT: Final = 4

_NAMES: Final = (
    r"pass(?:word|wd|phrase|code)s?|pwd|secrets?|authorization|cookies?|[ht]?otp|credentials?"
    r"|(?:api|private|access|secret)[_-]?keys?|session[_-]?id|csrf\w{0,20}|xsrf\w{0,20}|seed"
    r"|tokens?|refresh|bearer|signature|jwt|local_?storage|session_?storage"
)
# `password_confirm` and `password2` hold a password; `token_id` and `token_count` hold none.
_SECRET_KEY: Final = re.compile(
    rf".*(?:{_NAMES})(?:[_-]?(?:\d+|confirm\w*|value|text|plain))?", re.IGNORECASE
)
_CODE_KEY: Final = re.compile(r"(?:.*[_-])?(?:[ht]?otp|pin|passcode)", re.IGNORECASE)
_QUERY_NAMES: Final = rf"{_NAMES}|code|key|sig|ticket|auth|session|state|nonce|assertion"

# Repetitions are bounded, so that a hostile text costs linear time.
_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(://)[^/\s@'\"]{1,500}@"), rf"\1{REDACTED}@"),
    (
        re.compile(
            rf"([?&#;][\w.\-\[\]]{{0,40}}?(?:{_QUERY_NAMES})=)(?!\[redacted)[^&\s'\"<>#]+", re.I
        ),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(
            r"\b((?:set-)?cookie2?|(?:proxy-)?authorization)(\s{0,9}:\s{0,9})[^\s'\"][^\r\n]*", re.I
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"\b(bearer|basic|digest)\s{1,9}[\w.~+/=-]{6,}", re.I), rf"\1 {REDACTED}"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*)*"), REDACTED),
    (re.compile(r"\blk_[\w-]{6,}"), REDACTED),
    (
        re.compile(
            rf"(\b[\w-]{{0,40}}?(?:{_NAMES})['\"]?\s{{0,9}}(?:=|:(?=\s{{0,9}}b?['\"]))\s{{0,9}})"
            r"(?:b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|(?![=\[])[^\s,;&)}\]'\"]+)",
            re.I,
        ),
        rf"\1{REDACTED}",
    ),
)
# What every shape has some of; most texts have none, and are done with one search.
_SUSPICIOUS: Final = re.compile(
    r"[=@:]|eyJ|lk_|(?i:bearer|basic|digest|cookie|authorization)|[\w+/-]{40}"
)
# What programs compare, such as `secret_known_wrong`: words that nobody typed as a sentence.
_CODE: Final = re.compile(r"[a-z]+(?:_[a-z]+)+")
_NAME: Final = re.compile(r"[a-z]+(?:_[a-z]+)*")
_BLOB: Final = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")


class _State:
    """The lock of the values below; a forked child gets a new one, as nobody would release its."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = threading.Lock()


os.register_at_fork(after_in_child=_State.renew)
_guarded: Counter[str] = Counter()
_lingering: dict[str, float] = {}


@contextmanager
def guard(values: Iterable[object]) -> Iterator[None]:
    """While inside, and 60 s longer, none of these values passes a log handler or a problem.

    Also catches their URL, JSON and repr forms. Values under 4 characters are only caught as
    whole words. Safe to nest, and from any thread.
    """
    forms = {form for value in values for form in _forms(str(value))}
    with _State.lock:
        _guarded.update(forms)
    try:
        yield
    finally:
        with _State.lock:
            _guarded.subtract(forms)
            until = time.monotonic() + LINGER_S
            for form in forms:
                if _guarded[form] <= 0:
                    del _guarded[form]
                    _lingering[form] = until


def redact(value: Any, *, depth: int = 0) -> Any:
    """Return `value` as plain data (dict, list, str, numbers, None) without secrets.

    Objects of any other type become their redacted `repr`; what lies deeper than 8 levels is
    dropped.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float):
        return REDACTED if _is_guarded(str(value)) else value
    if depth >= MAX_DEPTH:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            _redact_key(str(key)): redact_item(str(key), item, depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in value]
    return redact_text(str(value) if isinstance(value, BaseException) else repr(value))


def redact_item(key: str, value: Any, *, depth: int = 0) -> Any:
    """Return `value` as `redact` does, or nothing of it if its key names a secret.

    Numbers under such a key stay (they are counts), except for one-time codes.
    """
    if value is None or isinstance(value, bool):
        return value
    if _CODE_KEY.fullmatch(key):
        return REDACTED
    if isinstance(value, int | float) or not _SECRET_KEY.fullmatch(key):
        return redact(value, depth=depth)
    return REDACTED


def redact_text(text: str) -> str:
    """Return `text` without the guarded values and without anything shaped like a secret.

    A code stays whole where a guarded value is only a part of it: passwords may be ordinary words,
    and who reads answers by program compares codes. Of a text over 20,000 characters the middle is
    left out.
    """
    found = [value for value in _live_values() if value in text]
    if found and (text in found or not _CODE.fullmatch(text)):
        for value in found:
            text = _replace(text, value)
    if len(text) > MAX_TEXT:
        half = MAX_TEXT // 2
        text = f"{text[:half]} … {len(text) - MAX_TEXT} characters left out … {text[-half:]}"
    if not _SUSPICIOUS.search(text):
        return text
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement, text)
    return _BLOB.sub(_redact_blob, text)


def _redact_key(key: str) -> str:
    """Return the name of a value; one as programs write it stays, unless it is a guarded value."""
    return key if _NAME.fullmatch(key) and not _is_guarded(key) else redact_text(key)


def _redact_blob(match: re.Match[str]) -> str:
    """Redact what is random enough for a key; leave paths, names and hexadecimal hashes."""
    blob = match.group()
    mixed = any(map(str.isupper, blob)) and any(map(str.islower, blob))
    if not mixed or not any(map(str.isdigit, blob)) or blob.count("/") * 16 > len(blob):
        return blob
    return REDACTED


def _replace(text: str, value: str) -> str:
    if len(value) >= SHORT:
        return text.replace(value, REDACTED)
    return re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", REDACTED, text)


def _is_guarded(text: str) -> bool:
    return text in _guarded or text in _live_values()


def _live_values() -> list[str]:
    """The values of running logins and of those that ended a moment ago, longest first."""
    if not _guarded and not _lingering:
        return []
    with _State.lock:
        if _lingering:
            now = time.monotonic()
            for value in [value for value, until in _lingering.items() if until < now]:
                del _lingering[value]
        return sorted({*_guarded, *_lingering}, key=len, reverse=True)


def _forms(value: str) -> set[str]:
    """The value as it may appear in a URL, in JSON or in a repr."""
    if not value:
        return set()
    return {
        value,
        quote(value, safe="", errors="replace"),
        quote_plus(value, errors="replace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        ascii(value)[1:-1],
    }
