"""The color description of an AVIF file: its `colr` box or the AV1 bitstream, and its brightest light.

Sources: ISO/IEC 14496-12, 8.11 and 12.1.5; ISO/IEC 23008-12, 9.3; MIAF (ISO/IEC 23000-22), 7.3.6.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from workers.color.av1_header import read_code_points
from workers.color.cicp import CodePoints
from workers.formats.byte_source import ByteSource, FormatError
from workers.formats.isobmff import Box, inside, walk

# Matrix coefficients that browsers do not support. They show such an image as sRGB.
_UNSUPPORTED = frozenset({12, 13, 14})
_UNKNOWN = 2
_MOST_BOXES = 10_000
# The sequence header is in the first bytes of the bitstream.
_STREAM_BYTES = 256


def read_avif_code_points(stream: BinaryIO) -> CodePoints | None:
    """Return the code points of the primary image, or None if it has none."""
    try:
        return _AvifColors(ByteSource(stream, _MOST_BOXES)).read()
    except (FormatError, struct.error, IndexError):
        return None


class _AvifColors:
    """The boxes of one file, and the item that viewers show."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        top = walk(source, 0, source.size)
        meta = next((box for box in top if box.kind == b"meta"), None)
        if meta is None:
            raise FormatError("The file lists no image.")
        self._boxes: dict[bytes, Box] = {}
        for box in walk(source, meta.body + 4, meta.end):
            self._boxes.setdefault(box.kind, box)
        self._primary = self._read_primary()

    def read(self) -> CodePoints | None:
        properties = list(self._read_properties())
        peak = self._read_peak(properties)
        for box in properties:
            if box.kind == b"colr" and self._source.at(box.body, 4) == b"nclx":
                codes = struct.unpack(">3H", self._source.at(box.body + 4, 6))
                break
        else:
            codes = read_code_points(self._read_stream(self._find_coded_item())) or (0, 0, _UNKNOWN)
        if codes[2] in _UNSUPPORTED:
            return None
        return CodePoints(codes[0], codes[1], peak)

    def _read_primary(self) -> int:
        data = self._read_box(b"pitm")
        return _read_number(data, 4, 2 if data[0] == 0 else 4)

    def _read_box(self, kind: bytes) -> bytes:
        """Return the content of a box in `meta`. `workers.media.header_limits` limits its size."""
        box = self._boxes.get(kind)
        if box is None:
            raise FormatError("The file does not describe its image.")
        return self._source.at(box.body, box.end - box.body)

    # --- Properties.

    def _read_properties(self) -> Iterator[Box]:
        """Yield the properties of the primary image."""
        parent = self._boxes.get(b"iprp")
        container = None if parent is None else inside(self._source, parent, b"ipco")
        if parent is None or container is None:
            return
        listed = list(walk(self._source, container.body, container.end))
        for box in walk(self._source, parent.body, parent.end):
            if box.kind != b"ipma":
                continue
            for index in self._read_associations(box):
                if 0 < index <= len(listed):
                    yield listed[index - 1]

    def _read_associations(self, box: Box) -> list[int]:
        data = self._source.at(box.body, box.end - box.body)
        id_bytes, index_bytes = 2 if data[0] == 0 else 4, 2 if data[3] & 1 else 1
        position = 8
        for _ in range(_read_number(data, 4, 4)):
            item = _read_number(data, position, id_bytes)
            count = data[position + id_bytes]
            position += id_bytes + 1
            if item == self._primary:
                # The highest bit marks essential properties.
                mask = (1 << (8 * index_bytes - 1)) - 1
                starts = range(position, position + count * index_bytes, index_bytes)
                return [_read_number(data, start, index_bytes) & mask for start in starts]
            position += count * index_bytes
        return []

    def _read_peak(self, properties: list[Box]) -> float:
        """Return the luminance of the brightest pixel, else of the mastering display, in cd/m²."""
        found = {box.kind: box for box in reversed(properties)}
        if b"clli" in found:
            most = _read_number(self._source.at(found[b"clli"].body, 2), 0, 2)
            if most:
                return float(most)
        if b"mdcv" in found:
            return _read_number(self._source.at(found[b"mdcv"].body + 16, 4), 0, 4) / 10_000
        return 0.0

    # --- The bitstream.

    def _find_coded_item(self) -> int:
        """Return the item that is an AV1 image: the primary one, or the first tile of a grid."""
        references = self._boxes.get(b"iref")
        if references is None:
            return self._primary
        wide = self._source.at(references.body, 1)[0] != 0
        size = 4 if wide else 2
        for box in walk(self._source, references.body + 4, references.end):
            data = self._source.at(box.body, min(box.end - box.body, 2 * size + 2))
            if box.kind == b"dimg" and _read_number(data, 0, size) == self._primary:
                return _read_number(data, size + 2, size)
        return self._primary

    def _read_stream(self, item: int) -> bytes:
        """Return the first bytes of an item."""
        place = _Places(self._read_box(b"iloc")).find(item)
        if place is None:
            return b""
        start, length, is_inside = place
        end = self._source.size
        if is_inside:
            box = self._boxes.get(b"idat")
            if box is None:
                return b""
            start, end = start + box.body, box.end
        length = min(length or end - start, end - start, _STREAM_BYTES)
        return self._source.at(start, length)


class _Places:
    """An `iloc` box: byte ranges of items. ISO/IEC 14496-12, 8.11.3."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._version = data[0]
        sizes = _read_number(data, 4, 2)
        self._offset, self._length, self._base = sizes >> 12 & 15, sizes >> 8 & 15, sizes >> 4 & 15
        self._index = sizes & 15 if self._version else 0
        self._position = 6

    def find(self, wanted: int) -> tuple[int, int, bool] | None:
        """Return start and length of an item's first extent, and whether it is in `idat`."""
        wide = 4 if self._version == 2 else 2
        for _ in range(self._next(wide)):
            item = self._next(wide)
            method = self._next(2) & 15 if self._version else 0
            self._next(2)
            base = self._next(self._base)
            count = self._next(2)
            at, stride = self._position, self._index + self._offset + self._length
            if item == wanted:
                self._position += self._index
                return base + self._next(self._offset), self._next(self._length), method == 1
            self._position = at + count * stride
        return None

    def _next(self, size: int) -> int:
        value = _read_number(self._data, self._position, size)
        self._position += size
        return value


def _read_number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise FormatError("A number reaches beyond the end of its box.")
    return int.from_bytes(data[at : at + size], "big")
