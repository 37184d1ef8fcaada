"""Values as bytes: msgpack, never pickle (a crafted pickle runs code when it is read)."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgpack  # type: ignore[import-untyped]
from django_redis.serializers.base import BaseSerializer

from apps.common.errors import CacheFailed


class BytesSerializer(BaseSerializer):  # type: ignore[misc]
    """Hands bytes through: the cache seals its values before django-redis sees them.

    Refuses anything else, so that nothing reaches Redis unsealed by accident.
    """

    def dumps(self, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise TypeError("The shared cache takes bytes; use apps.caching.services.")
        return value

    def loads(self, value: bytes) -> bytes:
        return value


class NotCacheable(TypeError):
    """The value holds something that has no place in a cache, such as a model instance."""


class Undecodable(CacheFailed):
    """The bytes are no value of ours."""

    code = "cache_undecodable"


def pack(value: Any) -> bytes:
    """Return the value as bytes; raises NotCacheable.

    Takes None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, datetime, date,
    UUID and Decimal, nested. Each comes back as what it was, save that an aware datetime comes
    back in UTC and a text enumeration as its text.
    """
    try:
        return msgpack.packb(value, default=_encode, strict_types=True)  # type: ignore[no-any-return]
    except NotCacheable:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise NotCacheable(f"A {type(value).__name__} cannot be cached: {error}") from None


def unpack(data: bytes | memoryview) -> Any:
    """Return what `pack` was given; raises Undecodable."""
    try:
        return msgpack.unpackb(data, ext_hook=_decode, strict_map_key=False)
    except (ValueError, TypeError, KeyError, ArithmeticError, msgpack.UnpackException) as error:
        raise Undecodable(f"A cached value does not decode: {type(error).__name__}.") from None


def _moment(value: datetime) -> bytes:
    return (value if value.tzinfo is None else value.astimezone(UTC)).isoformat().encode()


_Coder = tuple[int, Callable[[Any], bytes], Callable[[bytes], Any]]
# The numbers are in stored values: never give one a new meaning.
_CODERS: Final[dict[type, _Coder]] = {
    datetime: (1, _moment, lambda data: datetime.fromisoformat(data.decode())),
    date: (2, lambda value: value.isoformat().encode(), lambda d: date.fromisoformat(d.decode())),
    UUID: (3, lambda value: value.bytes, lambda data: UUID(bytes=data)),
    Decimal: (4, lambda value: str(value).encode(), lambda data: Decimal(data.decode())),
    tuple: (5, lambda value: pack(list(value)), lambda data: tuple(unpack(data))),
    set: (6, lambda value: pack(list(value)), lambda data: set(unpack(data))),
    frozenset: (7, lambda value: pack(list(value)), lambda data: frozenset(unpack(data))),
    int: (8, lambda value: str(value).encode(), int),
}
_DECODERS: Final = {code: decode for code, _, decode in _CODERS.values()}


def _encode(value: Any) -> Any:
    coder = _CODERS.get(type(value))
    if coder is not None:
        return msgpack.ExtType(coder[0], coder[1](value))
    if isinstance(value, str):
        return str.__str__(value)
    raise NotCacheable(f"A {type(value).__name__} cannot be cached.")


def _decode(code: int, data: bytes) -> Any:
    return _DECODERS[code](data)
