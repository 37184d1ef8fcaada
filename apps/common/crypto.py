"""Encryption and fingerprints.

A sealed value is `version | length of key id | key id | nonce (12 bytes) | AES-256-GCM data`.
The associated data names the place the value belongs to, so that a value copied into another
row or another cache entry cannot be opened there.
"""

import base64
import binascii
import hmac
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.common.errors import SystemFailed

VERSION: Final = 1
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
FINGERPRINT_HEX_DIGITS: Final = 32


class CannotOpen(SystemFailed):
    """A sealed value is damaged, in the wrong place, or its key is not configured."""

    code = "cannot_decrypt"
    default_message = "A stored secret cannot be decrypted."


@dataclass(frozen=True, slots=True)
class Keyring:
    """The encryption keys by id; the first one seals, all of them open."""

    keys: dict[str, AESGCM] = field(repr=False)
    active: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64,id:base64`; each key is 32 bytes, each id 1 to 32 ASCII characters.

        Raises ImproperlyConfigured without repeating any part of a key.
        """
        keys: dict[str, AESGCM] = {}
        for position, item in enumerate(filter(None, text.split(",")), start=1):
            key_id, separator, encoded = item.strip().partition(":")
            if not separator or not key_id.isascii() or not 1 <= len(key_id) <= 32:
                raise ImproperlyConfigured(f"LATCHKEY_KEYS: item {position} is not id:base64.")
            try:
                raw = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise ImproperlyConfigured(f"LATCHKEY_KEYS: {key_id} is not base64.") from None
            if len(raw) != KEY_BYTES:
                raise ImproperlyConfigured(f"LATCHKEY_KEYS: {key_id} must be {KEY_BYTES} bytes.")
            keys[key_id] = AESGCM(raw)
        if not keys:
            raise ImproperlyConfigured("LATCHKEY_KEYS holds no key.")
        return cls(keys=keys, active=next(iter(keys)))

    def seal(self, plaintext: bytes, *, place: str) -> bytes:
        """Encrypt with the active key, bound to `place`."""
        nonce = os.urandom(NONCE_BYTES)
        header = bytes([VERSION, len(self.active)]) + self.active.encode("ascii") + nonce
        return header + self.keys[self.active].encrypt(nonce, plaintext, place.encode())

    def open(self, sealed: bytes, *, place: str) -> bytes:
        """Decrypt what `seal` made for the same place.

        Raises CannotOpen; the message says why and never holds data.
        """
        name = key_id(sealed)
        if name not in self.keys:
            raise CannotOpen(f"The key {name!r} is not in LATCHKEY_KEYS.")
        start = 2 + len(name)
        nonce, data = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
        try:
            return self.keys[name].decrypt(nonce, data, place.encode())
        except (InvalidTag, ValueError):
            raise CannotOpen(f"A value at {place.partition(':')[0]} does not decrypt.") from None


def key_id(sealed: bytes) -> str:
    """Return the id of the key that sealed this value. Raises CannotOpen if it is no such value."""
    if len(sealed) < 2 or sealed[0] != VERSION or len(sealed) < 2 + sealed[1] + NONCE_BYTES:
        raise CannotOpen("A stored secret has an unknown format.")
    return sealed[2 : 2 + sealed[1]].decode("ascii", errors="replace")


def keyring() -> Keyring:
    """Return the keyring of the settings."""
    return _parse_once(settings.LATCHKEY_KEYS)


def fingerprint(secret: bytes, *, purpose: str) -> str:
    """Return a keyed, one-way name for a secret: 32 hex digits, the same on every host.

    The key (LATCHKEY_FINGERPRINT_KEY) is never rotated: a known-wrong password must stay known.
    `purpose` keeps fingerprints of different things apart.
    """
    key = settings.LATCHKEY_FINGERPRINT_KEY.encode()
    message = purpose.encode() + b"\0" + secret
    return hmac.digest(key, message, "sha256").hex()[:FINGERPRINT_HEX_DIGITS]


@lru_cache(maxsize=4)
def _parse_once(text: str) -> Keyring:
    return Keyring.parse(text)
