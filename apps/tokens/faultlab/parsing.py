"""From JSON to a behaviour, with every error named."""

import codecs
import difflib
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from apps.tokens.faultlab.behaviour import Behaviour, LabAccount
from apps.tokens.faultlab.faults import Fault, FaultKind

MAX_LISTED_FAULTS: Final = 100_000


class BehaviourError(Exception):
    """A behaviour cannot be used; `errors` names each key and what is allowed."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__(" ".join(errors))


class _Bad(Exception):
    """A value that a key does not take; the text follows the key's name."""


def parse(raw: Any) -> Behaviour:
    """Return the behaviour that a JSON object describes. Raises BehaviourError.

    A value of null means the default.
    """
    if not isinstance(raw, dict):
        raise BehaviourError(["A behaviour is a JSON object."])
    values: dict[str, Any] = {}
    errors: list[str] = []
    for key, value in raw.items():
        if key not in _READERS:
            errors.append(_unknown(key))
        elif value is not None:
            try:
                values[key] = _READERS[key](value)
            except _Bad as error:
                errors.append(f"{key}: {error}")
    if errors:
        raise BehaviourError(errors)
    return Behaviour(**values)


def _unknown(key: str) -> str:
    close = difflib.get_close_matches(key, _READERS, n=1)
    return f"{key}: unknown key" + (f"; did you mean {close[0]}?" if close else ".")


def _number(*, minimum: float = 0.0, maximum: float = 1e9) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Bad("must be a number.")
        if not minimum <= value <= maximum:
            raise _Bad(f"must be {minimum:g} to {maximum:g}.")
        return float(value)

    return read


def _integer(*, minimum: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Bad("must be a whole number.")
        if value < minimum:
            raise _Bad(f"must be at least {minimum}.")
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Bad("must be true or false.")
    return value


def _shape(value: Any) -> str:
    if value not in ("opaque", "jwt"):
        raise _Bad("must be opaque or jwt.")
    return str(value)


def _expires_in(value: Any) -> float | str:
    if value == "absent":
        return "absent"
    if isinstance(value, str):
        raise _Bad("must be a number of seconds or absent.")
    return _number()(value)


def _encoding(value: Any) -> str:
    try:
        return codecs.lookup(value).name
    except (LookupError, TypeError):
        raise _Bad("must be the name of a character encoding, such as gbk.") from None


def _accounts(value: Any) -> dict[str, LabAccount]:
    if not isinstance(value, dict):
        raise _Bad("must be an object of username: {password, totp_secret?}.")
    found = {}
    for username, account in value.items():
        if isinstance(account, str):
            account = {"password": account}
        if not isinstance(account, dict) or not set(account) <= {"password", "totp_secret"}:
            raise _Bad(f"{username} must be {{password, totp_secret?}}.")
        if not all(isinstance(text, str) and text for text in account.values()):
            raise _Bad(f"{username}: password and totp_secret must be texts.")
        found[username] = LabAccount(**account)
    return found


def _kind(value: Any) -> FaultKind:
    try:
        return FaultKind(str(value))
    except ValueError:
        raise _Bad(f"{value!r} is not one of: {', '.join(FaultKind)}.") from None


def _fault(item: Any) -> list[Fault]:
    if not isinstance(item, dict):
        return [Fault(_kind(item))]
    if "fault" not in item or not set(item) <= {"fault", "retry_after_s", "times"}:
        raise _Bad("an item is a word or {fault, retry_after_s?, times?}.")
    wait_s = item.get("retry_after_s")
    times = _integer(minimum=1)(item.get("times", 1))
    if times > MAX_LISTED_FAULTS:
        raise _Bad(f"times must be at most {MAX_LISTED_FAULTS}.")
    return [Fault(_kind(item["fault"]), None if wait_s is None else _number()(wait_s))] * times


def _faults(value: Any) -> tuple[Fault, ...]:
    if not isinstance(value, list):
        raise _Bad("must be a list.")
    return tuple(fault for item in value for fault in _fault(item))


def _fault_mix(value: Any) -> dict[FaultKind, float]:
    if not isinstance(value, dict):
        raise _Bad("must be an object of fault: probability.")
    mix = {_kind(key): _number(maximum=1)(share) for key, share in value.items()}
    if sum(mix.values()) > 1 + 1e-9:
        raise _Bad("the probabilities must not add up to more than 1.")
    return mix


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "accounts": _accounts,
    "seed": _integer(minimum=0),
    "faults": _faults,
    "fault_mix": _fault_mix,
    "lockout_after": _integer(minimum=1),
    "max_concurrent": _integer(minimum=0),
    "token_shape": _shape,
    "expires_in": _expires_in,
    "encoding": _encoding,
    **{each.name: _flag for each in fields(Behaviour) if each.type is bool},
}
for _each in fields(Behaviour):
    if _each.name not in _READERS:
        _READERS[_each.name] = _number()
