"""Walk the chunks of PNG files by their headers. W3C, Portable Network Graphics, 5."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from workers.formats.byte_source import ByteSource

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PngChunk(NamedTuple):
    """One chunk: offsets of its header, its `length` bytes of data and its end."""

    kind: bytes
    start: int
    length: int

    @property
    def body(self) -> int:
        return self.start + 8

    @property
    def end(self) -> int:
        return self.start + self.length + 12


def walk(source: ByteSource) -> Iterator[PngChunk]:
    """Yield the chunks up to and including IEND. Their data may reach beyond the end of the file.

    Raises:
        FormatError: the file ends before IEND, or has too many chunks.
    """
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        source.count_part()
        length, kind = struct.unpack(">I4s", source.at(position, 8))
        yield PngChunk(kind, position, length)
        position += length + 12
