"""A value with its times, as it lies in Redis and in this process.

`kind | times | stamp | length of key | key | value`. In a secret namespace everything after the
kind is sealed, so that nobody who can write to Redis can lengthen a token's life; elsewhere a
checksum follows the kind. The key travels
along, sealed, for clearing by pattern. The stamp says in which generations it was stored.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from apps.caching.codec import Undecodable
from apps.caching.keys import place
from apps.common.crypto import keyring

PLAIN: Final = b"\x01"
SEALED: Final = b"\x02"
_HEADER: Final = struct.Struct("!Bdddf32sH")
NEGATIVE: Final = 1
STAMP_BYTES: Final = 32
CHECKSUM_BYTES: Final = 4


# Not frozen: freezing costs a microsecond a read, and nobody outside sees one.
@dataclass(slots=True, kw_only=True)
class Envelope:
    """Times are seconds since 1970. Fresh until `fresh_until`, then stale until `usable_until`."""

    stored_at: float
    fresh_until: float
    usable_until: float
    stamp: bytes
    key: str = field(repr=False)
    payload: bytes = field(repr=False)
    load_s: float = 0.0
    negative: bool = False


def close(envelope: Envelope, *, namespace: str, name: str, secret: bool) -> bytes:
    """Return the envelope as bytes; sealed whole if secret, otherwise with its key sealed."""
    at, key = place(namespace, name), envelope.key.encode("utf-8", "surrogatepass")
    if not secret:
        key = keyring().seal(key, place=at)
    body = (
        _HEADER.pack(
            NEGATIVE if envelope.negative else 0,
            envelope.stored_at,
            envelope.fresh_until,
            envelope.usable_until,
            envelope.load_s,
            envelope.stamp,
            len(key),
        )
        + key
        + envelope.payload
    )
    if secret:
        return SEALED + keyring().seal(body, place=at)
    return PLAIN + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big") + body


def open_envelope(blob: bytes, *, namespace: str, name: str, secret: bool) -> Envelope:
    """Return what `close` made.

    Raises Undecodable, and CannotOpen for a value of another place or an unknown encryption key.
    A plain value in a secret namespace is refused: someone else put it there.
    """
    if blob[:1] != (SEALED if secret else PLAIN):
        raise Undecodable("A cached value has an unknown format.")
    if secret:
        body = keyring().open(blob[1:], place=place(namespace, name))
    else:
        body = blob[1 + CHECKSUM_BYTES :]
        if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big") != blob[1 : 1 + CHECKSUM_BYTES]:
            raise Undecodable("A cached value is damaged.")
    if len(body) < _HEADER.size:
        raise Undecodable("A cached value is too short.")
    flags, stored_at, fresh_until, usable_until, load_s, stamp, length = _HEADER.unpack_from(body)
    start = _HEADER.size + length
    key = body[_HEADER.size : start]
    return Envelope(
        stored_at=stored_at,
        fresh_until=fresh_until,
        usable_until=usable_until,
        stamp=stamp,
        key=key.decode("utf-8", "surrogatepass") if secret else "",
        payload=body[start:],
        load_s=load_s,
        negative=bool(flags & NEGATIVE),
    )


def open_key(blob: bytes, *, namespace: str, name: str, secret: bool) -> str:
    """Return the plain key of a stored value; raises Undecodable and CannotOpen."""
    envelope = open_envelope(blob, namespace=namespace, name=name, secret=secret)
    if secret:
        return envelope.key
    end = len(blob) - len(envelope.payload)
    sealed = blob[1 + CHECKSUM_BYTES + _HEADER.size : end]
    key = keyring().open(sealed, place=place(namespace, name))
    return key.decode("utf-8", "surrogatepass")
