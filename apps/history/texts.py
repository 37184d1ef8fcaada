"""Texts from outside, made fit for a row."""

from functools import lru_cache

from apps.common.redaction import redact_text
from apps.common.texts import storable
from apps.history.models import TokenAcquisitionHistory


@lru_cache(maxsize=32)
def _limit(field: str) -> int:
    return int(getattr(TokenAcquisitionHistory._meta.get_field(field), "max_length", None) or 0)


def clean(text: str, field: str) -> str:
    """Return the text without what a database refuses, cut to the column's length."""
    return storable(text)[: _limit(field)]


def clean_message(text: str) -> str:
    """Return an error message without secrets, then as `clean` does.

    Scrubbed before it is cut: half a secret may no longer look like one.
    """
    return clean(redact_text(storable(text)), "error_message")
