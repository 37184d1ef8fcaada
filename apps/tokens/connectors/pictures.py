"""Images of challenges, as pages embed them."""

from typing import Final
from urllib.parse import unquote_to_bytes, urljoin

from apps.tokens.connectors.ciphers import from_base64

SHORTEST_INLINE: Final = 64
_MAGIC: Final = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"<svg": "image/svg+xml",
}


def media_type(image: bytes) -> str:
    """Return the media type an image's first bytes show; empty if unknown."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    return next((name for magic, name in _MAGIC.items() if image.startswith(magic)), "")


def inline(text: str) -> bytes | None:
    """Return the image in a `data:` URI or in bare base64; None if the text is an address.

    Bare base64 is told from a path by what it decodes to: base64 of a JPEG begins with a slash.
    """
    if text.startswith("data:"):
        head, _comma, data = text.partition(",")
        try:
            return from_base64(data) if head.endswith(";base64") else unquote_to_bytes(data)
        except ValueError:
            return b""
    if len(text) < SHORTEST_INLINE:
        return None
    try:
        image = from_base64(text)
    except ValueError:
        return None
    return image if media_type(image) else None


def absolute(page: str, address: str) -> str:
    """Return the address of an image relative to the page it stands on."""
    return urljoin(page, address)
