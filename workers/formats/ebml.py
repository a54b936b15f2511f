"""Walk the elements of WebM files (EBML) by their headers. RFC 8794."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from workers.formats.byte_source import ByteSource, FormatError

HEADER, DOC_TYPE, SEGMENT, VOID, CRC = 0x1A45DFA3, 0x4282, 0x18538067, 0xEC, 0xBF
SEEK_HEAD, INFO, TRACKS, CLUSTER, CUES = 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
TRACK_ENTRY, TRACK_TYPE = 0xAE, 0x83
VIDEO, AUDIO = 1, 2


class Element(NamedTuple):
    """One element: offsets of its header, its data and its end. An `open` one ends with its parent."""

    kind: int
    start: int
    body: int
    end: int
    open: bool = False


def walk(source: ByteSource, start: int, end: int) -> Iterator[Element]:
    """Yield the elements that fill the bytes between two offsets.

    Raises:
        FormatError: they do not fill them exactly, or are too many.
    """
    position = start
    while position < end:
        source.count_part()
        element = _read(source, position, end)
        yield element
        position = element.end


def number(source: ByteSource, element: Element) -> int:
    """Return the unsigned integer in an element. Raises FormatError."""
    if element.end - element.body > 8:
        raise FormatError("An integer has more than 8 bytes.")
    return int.from_bytes(source.at(element.body, element.end - element.body), "big")


def _read(source: ByteSource, position: int, end: int) -> Element:
    head = source.at(position, min(12, end - position))
    id_length = _length(head[0])
    if id_length > 4 or len(head) < id_length + 1:
        raise FormatError("An element has no valid ID.")
    size_length = _length(head[id_length])
    if size_length > 8 or len(head) < id_length + size_length:
        raise FormatError("An element has no valid length.")
    raw = int.from_bytes(head[id_length : id_length + size_length], "big")
    size = raw & ((1 << 7 * size_length) - 1)
    body = position + id_length + size_length
    unknown = size == (1 << 7 * size_length) - 1
    if not unknown and body + size > end:
        raise FormatError("An element reaches beyond the end of its parent.")
    kind = int.from_bytes(head[:id_length], "big")
    return Element(kind, position, body, end if unknown else body + size, unknown)


def _length(first: int) -> int:
    """Return the length in bytes of a variable-size integer, from its first byte."""
    return 9 - first.bit_length()
