"""Limits on image headers, checked before Pillow opens a file.

Damaged files pass, because the decoder gives the better message. An AVIF passes only after a complete check.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from workers.formats import png
from workers.formats.byte_source import ByteSource, FormatError, TooManyPartsError
from workers.formats.header_errors import CUT_SHORT, TOO_COMPLEX, HeadError
from workers.formats.isobmff import AVIF_BRANDS, HEIC_BRANDS, Box, brands, walk
from workers.tiff.headers import SIGNATURES as TIFF_SIGNATURES
from workers.tiff.headers import check_tiff

# More than cameras and editors write. Pillow parses each segment in Python, and keeps its content.
MOST_SEGMENTS = 4096
MOST_FILLING = 16 * 1024
MOST_SEGMENT_BYTES = 32 * 1024 * 1024
MOST_EXIF_SEGMENTS = 16
# Quantization tables and frames: a JPEG has one frame and four tables of at most 129 bytes.
MOST_TABLE_BYTES = 64 * 1024
# Photoshop's blocks, which Pillow parses one by one.
MOST_RESOURCES = 4096
MOST_CHUNKS = 4096
# Pillow reads every chunk before the pixels into memory, and computes its checksum.
MOST_CHUNK_BYTES = 32 * 1024 * 1024
MOST_TEXT_BYTES = 8 * 1024 * 1024
# EXIF in a text chunk as ImageMagick writes it: lines of hexadecimal digits.
MOST_RAW_EXIF_BYTES = 1024 * 1024
# Each of these may decompress to 1 MB, which Pillow does not always count.
MOST_PACKED_CHUNKS = 24
MOST_WEBP_CHUNKS = 10_000
# WebP and AVIF are read into memory completely to parse their header.
MOST_WHOLE_BYTES = 128 * 1024 * 1024
# libavif's time grows with the square of the number of items that these bytes list.
MOST_ITEM_BYTES = 64 * 1024
MOST_PROPERTIES = 1000
MOST_BOXES = 10_000

TOO_MANY_BYTES = f"This image has more than {MOST_WHOLE_BYTES // 2**20} MB, the limit for its format."
ANIMATED = "This AVIF is animated. Only still images are supported."
UNSUPPORTED_PROCESS = (
    "This JPEG is lossless or hierarchical, which is not supported. Save it as a baseline or progressive "
    "JPEG, or as PNG."
)
UNSUPPORTED_APPLE = (
    "This PNG is in the format of iOS apps, which is not supported. Convert it to a standard PNG."
)
HEIC = "HEIC images are not supported. Convert the image to JPEG."


def check_head(stream: BinaryIO) -> None:
    """Refuse a header that would cost too much time or memory. Moves the stream's position.

    Raises:
        HeadError: it is too long, has too many parts, is animated, or is of an unsupported kind.
    """
    stream.seek(0)
    start = stream.read(16)
    if start.startswith(b"\xff\xd8"):
        _check_jpeg(stream)
    elif start.startswith(png.SIGNATURE):
        _check_png(stream)
    elif start.startswith(TIFF_SIGNATURES):
        check_tiff(stream)
    elif start[:4] == b"RIFF":
        _check_whole(stream)
        _check_webp(stream)
    elif start[4:8] == b"ftyp":
        _check_heif(stream)


def _check_whole(stream: BinaryIO) -> None:
    if stream.seek(0, io.SEEK_END) > MOST_WHOLE_BYTES:
        raise HeadError("too_large", TOO_MANY_BYTES)


# --- JPEG.


def _check_jpeg(stream: BinaryIO) -> None:
    """Count the segments before the first scan, as Pillow reads them."""
    stream.seek(2)
    filling = 0
    counts = _SegmentCounts()
    for _ in range(MOST_SEGMENTS):
        marker, skipped = _next_marker(stream, MOST_FILLING - filling)
        filling += skipped
        if marker is None or marker == 0xDA:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            continue
        length = stream.read(2)
        if len(length) < 2:
            return
        at = stream.tell()
        size = max(0, int.from_bytes(length, "big") - 2)
        counts.add(stream, marker, size)
        if counts.are_too_high or at > MOST_SEGMENT_BYTES:
            break
        stream.seek(at + size)
    raise HeadError("too_complex", TOO_COMPLEX)


_DQT, _DHP, _APP1, _APP13 = 0xDB, 0xDE, 0xE1, 0xED
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_DHP}
# Lossless and differential frames. Browsers do not show them, and decoders cannot reduce them.
_OTHER_PROCESSES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, _DHP})


class _SegmentCounts:
    """Counts of the segments that Pillow parses: tables, EXIF blocks and Photoshop resources."""

    def __init__(self) -> None:
        self._tables = self._exifs = self._resources = 0

    def add(self, stream: BinaryIO, marker: int, size: int) -> None:
        """Count a segment. The stream is at its content, and is moved."""
        if marker == _DQT or marker in _FRAMES:
            self._tables += size
            if marker in _FRAMES:
                _check_frame(marker, stream.read(1))
        elif marker == _APP1:
            self._exifs += stream.read(6) == b"Exif\0\0"
        elif marker == _APP13:
            self._resources += stream.read(size).count(b"8BIM")

    @property
    def are_too_high(self) -> bool:
        return (
            self._tables > MOST_TABLE_BYTES
            or self._exifs > MOST_EXIF_SEGMENTS
            or self._resources > MOST_RESOURCES
        )


def _check_frame(marker: int, precision: bytes) -> None:
    """Refuse a frame that no decoder here supports. ITU-T T.81, B.2.2 and table B.1."""
    if marker in _OTHER_PROCESSES:
        raise HeadError("unsupported", UNSUPPORTED_PROCESS)
    if precision in (b"\x0c", b"\x10"):
        bits = precision[0]
        text = f"This JPEG has {bits} bits a sample, which is not supported. Save it with 8 bits, or as PNG."
        raise HeadError("unsupported", text)


def _next_marker(stream: BinaryIO, most: int) -> tuple[int, int] | tuple[None, int]:
    """Return the next marker (None at the end) and the count of stray bytes before it."""
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
    """Count the chunks before the pixels, and check their sizes."""
    source = ByteSource(stream, MOST_CHUNKS)
    texts = packed = 0
    try:
        for chunk in png.walk(source):
            if chunk.kind == b"IDAT":
                return
            if chunk.kind == b"CgBI" and chunk.start == len(png.SIGNATURE):
                raise HeadError("unsupported", UNSUPPORTED_APPLE)
            start = _start_of_text(source, chunk)
            texts += chunk.length if chunk.kind in _TEXTS else 0
            packed += _is_packed(chunk.kind, start)
            too_long = start.startswith(_RAW_EXIF) and chunk.length > MOST_RAW_EXIF_BYTES
            too_many = texts > MOST_TEXT_BYTES or packed > MOST_PACKED_CHUNKS
            if too_long or too_many or chunk.end > MOST_CHUNK_BYTES:
                raise HeadError("too_complex", TOO_COMPLEX)
    except TooManyPartsError as error:
        raise HeadError("too_complex", TOO_COMPLEX) from error
    except FormatError:
        return


_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_RAW_EXIF = b"Raw profile type exif\0"
_MOST_KEYWORD = 79


def _start_of_text(source: ByteSource, chunk: png.PngChunk) -> bytes:
    """Return the keyword of a text chunk and the two bytes after it, as far as present."""
    wanted = min(chunk.length, _MOST_KEYWORD + 2, source.size - chunk.body)
    return source.at(chunk.body, wanted) if chunk.kind in _TEXTS else b""


def _is_packed(kind: bytes, content: bytes) -> bool:
    """Return whether Pillow decompresses a chunk. Chunks with too long keywords count as compressed."""
    if kind == b"iTXt":
        _keyword, _zero, rest = content.partition(b"\0")
        return rest[:1] != b"\0"
    return kind in (b"zTXt", b"iCCP")


# --- WebP. RFC 9649, 2.

# Chunks that Pillow copies several times, and searches.
_MOST_WEBP_BYTES = {b"EXIF": 4 * 2**20, b"XMP ": 8 * 2**20, b"ICCP": 16 * 2**20}


def _check_webp(stream: BinaryIO) -> None:
    """Count the chunks, including frames, and limit those without pixels."""
    position = 12
    for _ in range(MOST_WEBP_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int(struct.unpack("<I", head[4:])[0])
        if length > _MOST_WEBP_BYTES.get(head[:4], length):
            break
        position += 8 + length + length % 2
    raise HeadError("too_complex", TOO_COMPLEX)


# --- AVIF. ISO/IEC 23008-12, and AV1 Image File Format.


def _check_heif(stream: BinaryIO) -> None:
    source = ByteSource(stream, MOST_BOXES)
    try:
        major, named = brands(source, next(walk(source, 0, source.size)))
        if named & AVIF_BRANDS:
            _check_whole(stream)
            _check_avif(source, named)
        elif named & HEIC_BRANDS or major in (b"mif1", b"msf1"):
            raise HeadError("unreadable", HEIC)
    except TooManyPartsError as error:
        raise HeadError("too_complex", TOO_COMPLEX) from error
    except FormatError as error:
        raise HeadError("truncated", CUT_SHORT) from error


def _check_avif(source: ByteSource, named: frozenset[bytes]) -> None:
    top = list(walk(source, 0, source.size))
    if b"avis" in named or any(box.kind == b"moov" for box in top):
        raise HeadError("animated", ANIMATED)
    for box in top:
        if box.kind == b"meta":
            _check_items(source, box)


def _check_items(source: ByteSource, meta: Box) -> None:
    """Limit the bytes that list items, and the number of properties."""
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
