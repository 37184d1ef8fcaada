"""Lines of a gzip file, with the ends of its members.

The gzip module does not tell where a member ends, nor a cut one from a damaged one.
"""

import mmap
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE_BYTES = BLOCK_BYTES = 64 * 1024
# 15 bits of window, and 16 for the header and trailer of gzip.
GZIP_WBITS = 15 + 16
# No name, any time, then how hard it was compressed and on what system (RFC 1952, 2.3).
HEADER = re.compile(rb"\x1f\x8b\x08\x00.{4}[\x00\x02\x04][\x03\xff]", re.DOTALL)


def lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines without their ends, and None after each whole member.

    Raises EOFError at the end if the last member is cut, ValueError or zlib.error for damage and
    for a line longer than `MAX_LINE_BYTES`.
    """
    rest = b""
    for piece in _pieces(file):
        if piece is None:
            yield None
            continue
        *whole, rest = (rest + piece).split(b"\n")
        yield from map(_bounded, whole)
        _bounded(rest)
    if rest:
        raise ValueError("The line has no end.")


def _bounded(line: bytes) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("The line is too long.")
    return line


def _pieces(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the text of the members, and None after each whole one, its check sum verified."""
    data = b""
    while data := data or file.read(BLOCK_BYTES):
        # Zeros after a member are padding, as gzip itself has it.
        if not (data := data.lstrip(b"\0")):
            continue
        start = file.tell() - len(data)
        member = zlib.decompressobj(wbits=GZIP_WBITS)
        while not member.eof:
            if not (data := data or file.read(BLOCK_BYTES)):
                raise _without_end(file, start)
            yield member.decompress(data, BLOCK_BYTES)
            data = member.unconsumed_tail or member.unused_data
        yield None


def _without_end(file: BinaryIO, start: int) -> Exception:
    """Return EOFError if the member is the last, ValueError if damage made it swallow others."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if HEADER.search(content, start + 1):
            return ValueError("The chunk is damaged, and others follow.")
    return EOFError("The last chunk is cut.")
