"""Names under which things lie in Redis.

A key may hold the name of an account, and names in Redis leak through MONITOR, SLOWLOG and dumps.
So only a keyed hash of it goes there; a plain hash of an e-mail address can be guessed.
"""

import re
from functools import lru_cache
from typing import Final

from apps.common.crypto import fingerprint
from apps.common.errors import ValidationFailed

NAMESPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
EVERYTHING: Final = "*"
REMEMBERED: Final = 10_000


def check_namespace(namespace: str) -> str:
    """Return the namespace; raises ValidationFailed unless it is a short lower-case word."""
    if not NAMESPACE.fullmatch(namespace):
        raise ValidationFailed(
            "A cache namespace has 1 to 40 lower-case letters, digits and underscores."
        )
    return namespace


@lru_cache(maxsize=REMEMBERED)
def digest(namespace: str, key: str) -> str:
    """Return the keyed hash that stands for this key: 32 hex digits, the same on every host."""
    return fingerprint(key.encode("utf-8", "surrogatepass"), purpose=f"cache:{namespace}")


def place(namespace: str, name: str) -> str:
    """Return what a sealed value is bound to, so that it opens under its own key only."""
    return f"cache:{namespace}:{name}"
