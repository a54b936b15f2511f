"""Limits on TIFF directories, of TIFF files and of EXIF blocks. TIFF 6.0; BigTIFF.

`check_tiff` checks a file before any library reads it. `bound_directories` makes Pillow apply the same limits
to each directory that it reads, also in EXIF of JPEG, PNG, WebP and AVIF, and in the index of a multi-picture
JPEG.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, BinaryIO, NamedTuple

from PIL import TiffImagePlugin

from workers.formats.header_errors import HeadError

# Cameras and editors write at most about 200. libtiff's time grows with the square of their number.
MOST_TAGS = 1000
MOST_PAGES = 500
# A strip for each row of the tallest image, in four separate planes.
MOST_STRIPS = 80_000
# A tile or strip is decoded completely, even if the image is smaller.
MOST_TILE_PIXELS = 64_000_000
# Values may share bytes, but a small file must not cost much time.
MOST_OVERLAP = 64 * 1024
# libtiff logs a line about each one.
MOST_BAD_TAGS = 16

# Pillow converts each number to a Python object. It needs no longer lists, except of strips.
_MOST_NUMBERS = 4096
# Longer texts and bytes are hidden from Pillow, for example layers of editors.
_MOST_BYTES = 64 * 1024
_MOST_TEXTS = 256 * 1024
_MOST_KEPT_BYTES = 16 * 1024 * 1024
_XMP, _PROFILE, _PALETTE = 700, 34675, 320
_OFFSETS, _LENGTHS = frozenset({273, 324}), frozenset({279, 325})
_COMPRESSION, _OLD_JPEG, _JPEGS = 259, 513, frozenset({6, 7})
_WIDTH, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 256, 278, 322, 323
_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES = frozenset({1, 2, 7})
_BIG = 43
# Only BigTIFF has 64-bit types.
_CLASSIC_TYPES, _TYPES = range(1, 14), range(1, 19)
# An invalid type: Pillow skips such a tag without reading its value.
_NO_TYPE = 0

TOO_MANY_TAGS = f"This image has more than {MOST_TAGS:,} tags in one directory, which is the limit."
TOO_MANY_PAGES = f"This TIFF has more than {MOST_PAGES} pages."
TOO_MANY_STRIPS = f"This TIFF has more than {MOST_STRIPS:,} strips or tiles. Save it with larger ones."
TOO_MANY_BAD_TAGS = (
    f"This TIFF has more than {MOST_BAD_TAGS} damaged tags. Save it again with another program."
)
TOO_LARGE_TILES = "The tiles of this TIFF are too large. Save it with smaller ones."
OVERLAPPING = "Parts of this TIFF overlap. Save it again with another program."

# The header's first four bytes, as Pillow accepts them. The second and third are wrong but accepted.
SIGNATURES = (b"II*\0", b"MM*\0", b"II\0*", b"MM\0*", b"II+\0", b"MM\0+")
BIG_ENDIAN_BIGTIFF = b"MM\0+"
_header_only: ContextVar[bool] = ContextVar("header_only", default=False)


class TiffLayout(NamedTuple):
    """Byte order ("<" or ">") and whether the file is BigTIFF."""

    order: str
    is_big: bool

    @property
    def count_format(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def entry_format(self) -> str:
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")

    @property
    def pointer_format(self) -> str:
        return self.order + ("Q" if self.is_big else "I")


class Entry(NamedTuple):
    """A tag of a directory at the offset `at`. `value` has its `number` values, or their offset."""

    at: int
    tag: int
    kind: int
    number: int
    value: bytes

    @property
    def size(self) -> int:
        """Bytes of the value; 0 for an unknown type."""
        return _SIZES.get(self.kind, 0) * self.number

    @property
    def is_inline(self) -> bool:
        return self.size <= len(self.value)


def check_tiff(stream: BinaryIO) -> None:
    """Refuse a TIFF with directories that cost too much time or memory. Moves the stream's position.

    Damaged files pass, because the decoder gives the better message.

    Raises:
        HeadError: too many tags, pages, strips, tiles or damaged tags, or overlapping values.
    """
    size = stream.seek(0, io.SEEK_END)
    for layout, first in _beginnings(stream):
        entries = _check_pages(stream, layout, first, size)
        _check_types(entries, layout)
        _check_values(entries, layout, size)
        _check_tiles(entries, layout)
        _check_strips(stream, entries, layout, size)


def read_directory(
    stream: BinaryIO | IO[bytes], layout: TiffLayout, start: int, size: int
) -> tuple[list[Entry], int]:
    """Return the tags of a directory, as far as present, and the offset of the next directory.

    Raises:
        HeadError: it has too many tags.
    """
    number = _read_number(stream, layout.count_format, start, size)
    if number > MOST_TAGS:
        raise HeadError("too_complex", TOO_MANY_TAGS)
    if not number:
        return [], 0
    at, step = start + struct.calcsize(layout.count_format), struct.calcsize(layout.entry_format)
    stream.seek(at)
    data = stream.read(number * step)
    found = struct.iter_unpack(layout.entry_format, data[: len(data) // step * step])
    entries = [Entry(at + index * step, *fields) for index, fields in enumerate(found)]
    return entries, _read_number(stream, layout.pointer_format, at + number * step, size)


def read_numbers(
    stream: BinaryIO | IO[bytes], entry: Entry, layout: TiffLayout, size: int
) -> tuple[int, ...]:
    """Return the integers of a tag. Empty: they are not in the file."""
    letter = _NUMBERS.get(entry.kind)
    if letter is None:
        return ()
    if entry.is_inline:
        return struct.unpack_from(f"{layout.order}{entry.number}{letter}", entry.value)
    if _offset(entry, layout) + entry.size > size:
        return ()
    stream.seek(_offset(entry, layout))
    return struct.unpack(f"{layout.order}{entry.number}{letter}", stream.read(entry.size))


def jpeg_strips(stream: BinaryIO, pixels: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and largest pixel count of each JPEG in the first page of a TIFF.

    Args:
        stream: a TIFF that `check_tiff` has accepted.
        pixels: pixel count of the image.
    """
    size = stream.seek(0, io.SEEK_END)
    for layout, first in _beginnings(stream):
        entries, _next = read_directory(stream, layout, first, size)
        if not {_inline_number(entry, layout) for entry in entries if entry.tag == _COMPRESSION} & _JPEGS:
            continue
        each = _strip_pixels(entries, layout, pixels)
        by_tag = {entry.tag: read_numbers(stream, entry, layout, size) for entry in entries}
        for tag, other in ((273, 279), (324, 325)):
            for start, length in zip(by_tag.get(tag, ()), by_tag.get(other, ()), strict=False):
                yield start, min(start + length, size), each
        for start in by_tag.get(_OLD_JPEG, ()):
            yield start, size, pixels


@contextmanager
def reading_header() -> Iterator[None]:
    """Show Pillow only the first strip of a TIFF, because it creates an object for each on opening."""
    token = _header_only.set(True)
    try:
        yield
    finally:
        _header_only.reset(token)


class _BoundedDirectory(TiffImagePlugin.ImageFileDirectory_v2):
    """A directory with only the tags that Pillow needs. It is empty if there are too many tags.

    EXIF is often damaged, and images are shown without it.
    """

    def __init__(
        self, ifh: bytes = b"II*\0\0\0\0\0", prefix: bytes | None = None, group: int | None = None
    ) -> None:
        is_big_endian = ifh.startswith(BIG_ENDIAN_BIGTIFF) and len(ifh) == 16
        super().__init__(ifh[:8] if is_big_endian else ifh, prefix, group)
        if is_big_endian:
            # Pillow looks for the version only in the lower byte.
            self._bigtiff = True
            self.next = struct.unpack(">Q", ifh[8:])[0]

    def load(self, fp: IO[bytes]) -> None:
        start = fp.tell()
        size = fp.seek(0, io.SEEK_END)
        layout = TiffLayout(self._endian, self._bigtiff)
        try:
            entries, _next = read_directory(fp, layout, start, size)
            changed = _hide(entries, layout, is_header_only=_header_only.get())
        except HeadError:
            changed = {start: struct.pack(layout.count_format, 0)}
        fp.seek(start)
        super().load(_Patched(fp, changed) if changed else fp)  # type: ignore[arg-type]  # reads and seeks


def _hide(entries: list[Entry], layout: TiffLayout, *, is_header_only: bool) -> dict[int, bytes]:
    """Return replacements of tags that Pillow must not read, by their offset."""
    changed = {}
    numbers = texts = 0
    for entry in entries:
        if entry.tag in _OFFSETS | _LENGTHS and entry.kind in _NUMBERS:
            if is_header_only and entry.number > _MOST_NUMBERS:
                changed[entry.at] = struct.pack(layout.entry_format, *entry[1:3], 1, entry.value)
            continue
        if entry.kind not in _BYTES:
            is_hidden = entry.number > _MOST_NUMBERS or numbers + entry.number > _MOST_NUMBERS
            numbers += 0 if is_hidden else entry.number
        elif entry.tag in (_XMP, _PROFILE):
            is_hidden = entry.size > _MOST_KEPT_BYTES
        else:
            is_hidden = entry.size > _MOST_BYTES or texts + entry.size > _MOST_TEXTS
            texts += 0 if is_hidden else entry.size
        if is_hidden:
            changed[entry.at] = struct.pack(layout.entry_format, entry.tag, _NO_TYPE, *entry[3:])
    return changed


class _Patched:
    """A stream with replaced bytes at some offsets. Pillow reads the count and each tag separately."""

    def __init__(self, stream: IO[bytes], changed: Mapping[int, bytes]) -> None:
        self._stream = stream
        self._changed = changed
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        changed = self._changed.get(self._stream.tell())
        data = self._stream.read(size)
        return changed if changed is not None and len(changed) == len(data) else data


def bound_directories() -> None:
    """Make Pillow read directories under the limits of this module, and write no log of bad tags."""
    # Pillow looks the name up each time. It is the only point that all its readers use.
    TiffImagePlugin.ImageFileDirectory_v2 = _BoundedDirectory  # type: ignore[misc]  # a subclass takes its place
    # Pillow warns about each bad tag, and Python stores each shown warning: a memory leak on hostile input.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _beginnings(stream: BinaryIO) -> Iterator[tuple[TiffLayout, int]]:
    """Yield the layout and offset of the first directory. Wrong byte orders allow two readings."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    if len(head) >= 8 and head[2] != _BIG and head[:4] != BIG_ENDIAN_BIGTIFF:
        yield TiffLayout(order, False), struct.unpack(order + "I", head[4:8])[0]
    if _BIG in head[2:4] and len(head) == 16:
        yield TiffLayout(order, True), struct.unpack(order + "Q", head[8:])[0]


def _check_pages(stream: BinaryIO, layout: TiffLayout, first: int, size: int) -> list[Entry]:
    """Return the tags of the first page. Other pages are only counted, because nothing reads them."""
    entries, position = read_directory(stream, layout, first, size)
    seen = {first}
    # Pillow also stops at a page that it has seen.
    while position and position not in seen:
        seen.add(position)
        if len(seen) > MOST_PAGES:
            raise HeadError("too_complex", TOO_MANY_PAGES)
        position = _next_directory(stream, layout, position, size)
    return entries


def _next_directory(stream: BinaryIO, layout: TiffLayout, start: int, size: int) -> int:
    number = _read_number(stream, layout.count_format, start, size)
    after = start + struct.calcsize(layout.count_format) + number * struct.calcsize(layout.entry_format)
    return _read_number(stream, layout.pointer_format, after, size)


def _read_number(stream: BinaryIO | IO[bytes], format: str, start: int, size: int) -> int:
    """Return the number at an offset, or 0 beyond the end."""
    length = struct.calcsize(format)
    if start + length > size:
        return 0
    stream.seek(start)
    data = stream.read(length)
    return int(struct.unpack(format, data)[0]) if len(data) == length else 0


def _check_types(entries: list[Entry], layout: TiffLayout) -> None:
    known = _TYPES if layout.is_big else _CLASSIC_TYPES
    if sum(entry.kind not in known for entry in entries) > MOST_BAD_TAGS:
        raise HeadError("too_complex", TOO_MANY_BAD_TAGS)


def _check_values(entries: list[Entry], layout: TiffLayout, size: int) -> None:
    """Refuse overlapping values, because libtiff copies each one."""
    total = 0
    for entry in entries:
        if not entry.is_inline and _offset(entry, layout) + entry.size <= size:
            total += entry.size
    if total > size + MOST_OVERLAP:
        raise HeadError("too_complex", OVERLAPPING)


def _offset(entry: Entry, layout: TiffLayout) -> int:
    return int(struct.unpack(layout.pointer_format, entry.value)[0])


def _check_tiles(entries: list[Entry], layout: TiffLayout) -> None:
    if _largest(entries, layout, _TILE_WIDTH) * _largest(entries, layout, _TILE_LENGTH) > MOST_TILE_PIXELS:
        raise HeadError("too_complex", TOO_LARGE_TILES)


def _largest(entries: list[Entry], layout: TiffLayout, tag: int) -> int:
    """Return the largest number of a tag, which may occur twice. 0: it is missing."""
    return max((_inline_number(entry, layout) for entry in entries if entry.tag == tag), default=0)


def _inline_number(entry: Entry, layout: TiffLayout) -> int:
    letter = _NUMBERS.get(entry.kind)
    if letter is None or entry.number != 1 or not entry.is_inline:
        return 0
    return int(struct.unpack_from(layout.order + letter, entry.value)[0])


def _check_strips(stream: BinaryIO, entries: list[Entry], layout: TiffLayout, size: int) -> None:
    """Refuse too many strips and overlapping strips, because each one is read."""
    for entry in entries:
        if entry.tag in _OFFSETS | _LENGTHS and entry.number > MOST_STRIPS:
            raise HeadError("too_complex", TOO_MANY_STRIPS)
        if entry.tag in _LENGTHS and not entry.is_inline:
            lengths = read_numbers(stream, entry, layout, size)
            if sum(min(length, size) for length in lengths) > 4 * size + MOST_OVERLAP:
                raise HeadError("too_complex", OVERLAPPING)


def _strip_pixels(entries: list[Entry], layout: TiffLayout, pixels: int) -> int:
    tile = _largest(entries, layout, _TILE_WIDTH) * _largest(entries, layout, _TILE_LENGTH)
    rows = _largest(entries, layout, _ROWS_PER_STRIP)
    strip = _largest(entries, layout, _WIDTH) * rows if rows else pixels
    return tile or min(strip, pixels)
