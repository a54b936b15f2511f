"""How much work a picture's header may make: looked at before a decoder, which bears more, sees the file.

What is merely damaged passes, because the decoder says so better; an AVIF only if all of it was looked at.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from workers.boxes import AVIF_BRANDS, HEIC_BRANDS, Box, brands, walk
from workers.spans import FormatError, Source

# More than cameras and editors write. Pillow looks at each of these in Python, and keeps what they hold.
MOST_SEGMENTS = 4096
MOST_FILLING = 64 * 1024
MOST_SEGMENT_BYTES = 32 * 1024 * 1024
MOST_EXIF_SEGMENTS = 16
MOST_CHUNKS = 20_000
# WebP and AVIF are read into memory as a whole to look at their header.
MOST_WHOLE_BYTES = 128 * 1024 * 1024
# The time that libavif takes grows with the square of the items that these bytes list.
MOST_ITEM_BYTES = 64 * 1024
MOST_PROPERTIES = 1000

TOO_COMPLEX = "The header of this picture is too long to be read."
TOO_MANY_BYTES = f"This picture has more than {MOST_WHOLE_BYTES // 2**20} MB: too much for its format."
CUT_SHORT = "This picture is damaged: it ends too early."
ANIMATED = "This AVIF is animated: only still ones are accepted."
HEIC = "HEIC pictures cannot be read here: convert it to JPEG."


class HeadError(Exception):
    """This header is not read. `code` is one of: too_complex, too_large, animated, unreadable, truncated."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_head(stream: BinaryIO) -> None:
    """Refuse a header that makes more work than any picture needs. Leaves the stream anywhere.

    Raises:
        HeadError: too long, too many parts, animated, or of a kind that is not read at all.
    """
    stream.seek(0)
    start = stream.read(16)
    if start.startswith(b"\xff\xd8"):
        _check_jpeg(stream)
    elif start.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(stream)
    elif start[:4] == b"RIFF":
        _check_whole(stream)
    elif start[4:8] == b"ftyp":
        _check_heif(stream)


def _check_whole(stream: BinaryIO) -> None:
    if stream.seek(0, io.SEEK_END) > MOST_WHOLE_BYTES:
        raise HeadError("too_large", TOO_MANY_BYTES)


# --- JPEG.


def _check_jpeg(stream: BinaryIO) -> None:
    """Count what stands before the first scan, as Pillow reads it."""
    stream.seek(2)
    filling = exifs = 0
    for _ in range(MOST_SEGMENTS):
        marker, skipped = _next_marker(stream, MOST_FILLING - filling)
        filling += skipped
        if marker in (None, 0xDA):
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            continue
        length = stream.read(2)
        if len(length) < 2:
            return
        at = stream.tell()
        exifs += marker == 0xE1 and stream.read(6) == b"Exif\0\0"
        if exifs > MOST_EXIF_SEGMENTS or at > MOST_SEGMENT_BYTES:
            break
        stream.seek(at + max(0, int.from_bytes(length, "big") - 2))
    raise HeadError("too_complex", TOO_COMPLEX)


def _next_marker(stream: BinaryIO, most: int) -> tuple[int, int] | tuple[None, int]:
    """Return the next marker (None at the end) and how many bytes that belong to nothing stood before it."""
    skipped, before = 0, b""
    while byte := stream.read(1):
        if before == b"\xff" and byte not in (b"\0", b"\xff"):
            return byte[0], skipped
        skipped += before == b"\xff" or byte != b"\xff"
        if skipped > most:
            raise HeadError("too_complex", TOO_COMPLEX)
        before = byte
    return None, skipped


# --- PNG.


def _check_png(stream: BinaryIO) -> None:
    """Count the chunks before the pixels."""
    position = 8
    for _ in range(MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return
        position += 12 + int(struct.unpack(">I", head[:4])[0])
    raise HeadError("too_complex", TOO_COMPLEX)


# --- AVIF. ISO/IEC 23008-12, and AV1 Image File Format.


def _check_heif(stream: BinaryIO) -> None:
    source = Source(stream)
    try:
        major, named = brands(source, next(walk(source, 0, source.size)))
        if named & AVIF_BRANDS:
            _check_whole(stream)
            _check_avif(source, named)
        elif named & HEIC_BRANDS or major in (b"mif1", b"msf1"):
            raise HeadError("unreadable", HEIC)
    except FormatError as error:
        raise HeadError("truncated", CUT_SHORT) from error


def _check_avif(source: Source, named: frozenset[bytes]) -> None:
    top = list(walk(source, 0, source.size))
    if b"avis" in named or any(box.kind == b"moov" for box in top):
        raise HeadError("animated", ANIMATED)
    for box in top:
        if box.kind == b"meta":
            _check_items(source, box)


def _check_items(source: Source, meta: Box) -> None:
    """Bound how many items can be listed, named, placed and given properties."""
    listing = properties = 0
    for box in walk(source, meta.body + 4, meta.end):
        if box.kind == b"iprp":
            for inner in walk(source, box.body, box.end):
                if inner.kind == b"ipco":
                    properties += sum(1 for _ in walk(source, inner.body, inner.end))
                else:
                    listing += inner.length
        elif box.kind != b"idat":
            listing += box.length
    if listing > MOST_ITEM_BYTES or properties > MOST_PROPERTIES:
        raise HeadError("too_complex", TOO_COMPLEX)
