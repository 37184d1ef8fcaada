"""Texts from outside, made fit for a row."""

import re
from typing import Final

# Lone surrogates cannot be encoded, and PostgreSQL takes no NUL.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text without what a database refuses."""
    return _UNSTORABLE.sub("", text)
