"""Walk the fields of a protocol buffer without a schema. Source: protobuf.dev, «Encoding»."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workers.formats.byte_source import ByteSource, FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# A tag has at most 5 bytes, a value or length 10.
_MOST_HEAD = 15


@dataclass(frozen=True)
class Field:
    """A field with its wire type. Varints have a `value`; the bytes of others are at `start` to `end`."""

    number: int
    wire: int
    start: int
    end: int
    value: int = 0


def walk(source: ByteSource, start: int, end: int) -> Iterator[Field]:
    """Yield the fields between two offsets.

    Raises:
        FormatError: they do not fill the range exactly, or are too many.
    """
    position = start
    while position < end:
        source.count_part()
        field = _read(source, position, end)
        yield field
        position = field.end


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned integer of up to 64 bits and the offset of its end. Raises FormatError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise FormatError("An integer of a field has no end, or more than 64 bits.")


def _read(source: ByteSource, position: int, end: int) -> Field:
    head = source.at(position, min(_MOST_HEAD, end - position))
    tag, used = read_varint(head, 0)
    number, wire = tag >> 3, tag & 7
    if not 1 <= number < 2**29:
        raise FormatError("A field has an invalid number.")
    value = 0
    if wire == VARINT:
        value, used = read_varint(head, used)
        length = 0
    elif wire == BYTES:
        length, used = read_varint(head, used)
    elif wire in (FIXED64, FIXED32):
        length = 8 if wire == FIXED64 else 4
    else:
        raise FormatError("A field has an unknown type.")
    start = position + used
    if start + length > end:
        raise FormatError("A field reaches beyond the end of its parent.")
    return Field(number, wire, start, start + length, value)
