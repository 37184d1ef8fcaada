"""The text of an API key: `lk_<prefix>_<secret>`.

The secret is 256 random bits, so one SHA-256 is enough: there is nothing to guess that a slow
hash would protect.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

MARK: Final = "lk_"
PREFIX_CHARACTERS: Final = 8
SECRET_HEX_DIGITS: Final = 64
KEY_CHARACTERS: Final = len(MARK) + PREFIX_CHARACTERS + 1 + SECRET_HEX_DIGITS
NO_PREFIX: Final = "-" * PREFIX_CHARACTERS


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as somebody gave it: what to look it up by, and its SHA-256 as 64 hex digits."""

    prefix: str
    digest: str = field(repr=False)


def generate() -> tuple[str, KeyText]:
    """Return a new key, raw and parsed."""
    prefix = secrets.token_hex(PREFIX_CHARACTERS // 2)
    raw = f"{MARK}{prefix}_{secrets.token_hex(SECRET_HEX_DIGITS // 2)}"
    return raw, parse(raw)


def parse(raw: str) -> KeyText:
    """Return the parts to look a key up by.

    Text that cannot be a key gets a prefix no key has, so that it costs and answers the same as
    an unknown one.
    """
    digest = hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()
    well_formed = (
        len(raw) == KEY_CHARACTERS
        and raw.isascii()
        and raw.startswith(MARK)
        and raw[len(MARK) + PREFIX_CHARACTERS] == "_"
    )
    start = len(MARK)
    prefix = raw[start : start + PREFIX_CHARACTERS] if well_formed else NO_PREFIX
    return KeyText(prefix.replace("\0", "-"), digest)
