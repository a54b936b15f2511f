"""Walk the boxes of MP4, MOV and AVIF files by their headers. ISO/IEC 14496-12, 4.2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from workers.formats.byte_source import ByteSource, FormatError

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


class Box(NamedTuple):
    """One box: offsets of its header, its content and its end."""

    kind: bytes
    start: int
    body: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def walk(source: ByteSource, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes that fill the bytes between two offsets.

    Raises:
        FormatError: they do not fill them exactly, or are too many.
    """
    position = start
    while position < end:
        source.count_part()
        box = _read(source, position, end)
        yield box
        position = box.end


def inside(source: ByteSource, parent: Box, kind: bytes) -> Box | None:
    """Return the first child box of a kind, or None. Raises FormatError."""
    return next((box for box in walk(source, parent.body, parent.end) if box.kind == kind), None)


def brands(source: ByteSource, box: Box) -> tuple[bytes, frozenset[bytes]]:
    """Return the major brand of a file and all of its brands.

    Raises:
        FormatError: the box is not a list of brands.
    """
    length = box.end - box.body
    if box.kind != b"ftyp" or not 8 <= length <= 1024 or length % 4:
        raise FormatError("The file has no valid ftyp box.")
    data = source.at(box.body, length)
    listed = {data[at : at + 4] for at in range(8, length, 4)}
    return data[:4], frozenset(listed | {data[:4]})


def _read(source: ByteSource, position: int, end: int) -> Box:
    length, kind = struct.unpack(">I4s", source.at(position, 8))
    body = position + 8
    if length == 1:
        length = struct.unpack(">Q", source.at(body, 8))[0]
        body += 8
    elif length == 0:
        length = end - position
    if position + length < body or position + length > end:
        raise FormatError("A box reaches beyond the end of its parent.")
    return Box(kind, position, body, position + length)
