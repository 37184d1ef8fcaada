"""A picture of digits as PNG, made of the standard library (PNG specification, 5 and 11)."""

import struct
import zlib
from typing import Final

SCALE: Final = 6
# Three columns by five rows for each digit, a row per octal figure.
GLYPHS: Final = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71222", "8": "75757", "9": "75717",
}  # fmt: skip


def png(digits: str) -> bytes:
    """Return a grey-scale PNG that shows `digits`, black on white."""
    rows = [b"".join(_pixels(digit, row) for digit in digits) for row in range(5)]
    blank = b"\x00" + b"\xff" * len(rows[0])
    lines = [blank] * SCALE + [b"\x00" + row for row in rows for _ in range(SCALE)]
    raw = b"".join(lines + [blank] * SCALE)
    header = struct.pack(">IIBBBBB", len(rows[0]), 7 * SCALE, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw))
        + _chunk(b"IEND", b"")
    )


def _pixels(digit: str, row: int) -> bytes:
    bits = int(GLYPHS[digit][row], 8)
    cells = (b"\x00" if bits >> shift & 1 else b"\xff" for shift in (2, 1, 0))
    return b"".join(cell * SCALE for cell in cells) + b"\xff" * SCALE


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
