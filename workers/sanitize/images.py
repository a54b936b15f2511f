"""Remove metadata from images: location, times, camera, comments, and data after the end.

Nothing is decoded. The bytes of the pixels are copied unchanged. Of the metadata, only color profile and
orientation are kept, because images need them to look right. The orientation is written as a new block. An
allowlist defines what is kept, so unknown parts are dropped.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from workers.formats import png
from workers.formats.byte_source import MOST_PARTS, ByteSource, FormatError
from workers.media.decode import PictureError, identify
from workers.sanitize.copy_plan import Clean, CopyPlan
from workers.sanitize.videos import clean_boxes, clean_webm


def clean_copy(stream: BinaryIO) -> Clean:
    """Plan the clean copy of a JPEG, PNG, WebP or TIFF, of an MP4, MOV or WebM.

    Raises:
        FormatError: it is of another format, is damaged, or may hide data among its pixels.
    """
    source = ByteSource(stream)
    start = source.at(0, min(12, source.size))
    clean = next((clean for mark, clean in _FORMATS if mark.match(start)), None)
    if clean is None:
        raise FormatError("This kind of file cannot be cleaned.")
    return clean(source)


def _orientation(source: ByteSource) -> int:
    """Return the orientation as everywhere on this site: 1 to 8.

    Call it last, after the parts were counted: its header limits are stricter.
    """
    try:
        return identify(source.stream).orientation
    except PictureError as error:
        raise FormatError(error.message) from error


def _orientation_block(orientation: int) -> bytes:
    """Return an EXIF block (TIFF) with only the orientation."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# --- JPEG. ITU-T T.81, annex B.

_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
# Frames, tables, restart intervals, number of lines, scans. 0xC8 is reserved.
_JPEG_KEPT = (frozenset(range(0xC0, 0xD0)) - {0xC8}) | {0xDA, 0xDB, 0xDC, 0xDD}
_JPEG_DROPPED = frozenset(range(0xE0, 0xF0)) | {0xFE}
# Finding the end of a scan costs more than other parts.
_JPEG_PART_WEIGHT = 10
# In scan data, 0xFF is followed by zero, a restart marker or fill bytes. Any other byte ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _clean_jpeg(source: ByteSource) -> Clean:
    head, body = CopyPlan(), CopyPlan()
    head.write(b"\xff\xd8")
    position = 2
    while True:
        source.count_part(_JPEG_PART_WEIGHT)
        position, marker = _next_marker(source, position)
        if marker == _EOI:
            break
        length = 2 + struct.unpack(">H", source.at(position + 2, 2))[0]
        if length < 4 or marker not in _JPEG_KEPT | _JPEG_DROPPED:
            raise FormatError("The JPEG has an unknown segment.")
        if marker in _JPEG_DROPPED:
            _keep_application_data(source, marker, position, length, head, body)
        else:
            body.copy(source, position, length)
        position += length
        if marker == _SOS:
            end = source.find(_SCAN_END, position)
            body.copy(source, position, end - position)
            position = end
    orientation = _orientation(source)
    if orientation != 1:
        block = b"Exif\0\0" + _orientation_block(orientation)
        head.write(struct.pack(">BBH", 0xFF, _APP1, 2 + len(block)) + block)
    return _joined(head, body, b"\xff\xd9")


def _next_marker(source: ByteSource, position: int) -> tuple[int, int]:
    """Return offset and type of the next marker. Any number of 0xFF may precede it."""
    first, marker = source.at(position, 2)
    while first == 0xFF and marker == 0xFF:
        source.count_part()
        position += 1
        first, marker = source.at(position, 2)
    if first != 0xFF:
        raise FormatError("The JPEG has data between its segments.")
    return position, marker


def _keep_application_data(
    source: ByteSource, marker: int, position: int, length: int, head: CopyPlan, body: CopyPlan
) -> None:
    """Keep the segments that define colors: profile, and whether they are RGB, YCbCr or CMYK."""
    start = source.at(position + 4, min(length - 4, 14))
    if marker == _APP0 and start.startswith(b"JFIF\0") and len(start) >= 12 and head.size == 2:
        # Without its thumbnail, which may show parts that were cropped later.
        head.write(struct.pack(">BBH", 0xFF, _APP0, 16) + start[:12] + b"\0\0")
    elif marker == _APP14 and start.startswith(b"Adobe") and len(start) >= 12:
        body.write(struct.pack(">BBH", 0xFF, _APP14, 14) + start[:12])
    elif marker == _APP2 and start.startswith(b"ICC_PROFILE\0"):
        body.copy(source, position, length)


def _joined(head: CopyPlan, body: CopyPlan, end: bytes) -> Clean:
    pieces = (*head.done().pieces, *body.done().pieces, end)
    return Clean(pieces, head.size + body.size + len(end))


# --- PNG. W3C, Portable Network Graphics (Third Edition), 5 and 11.

_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT tRNS gAMA cHRM sRGB iCCP cICP mDCV mDCv cLLI cLLi sBIT bKGD pHYs acTL fcTL fdAT".split()
)


def _clean_png(source: ByteSource) -> Clean:
    head, body = CopyPlan(), CopyPlan()
    head.write(png.SIGNATURE)
    for kind, start, length in png.walk(source):
        is_first = start == len(png.SIGNATURE)
        if (kind == b"IHDR") != is_first:
            raise FormatError("The PNG’s header is not its first chunk.")
        if kind == b"IEND":
            break
        source.check(start, length + 12)
        if kind in _PNG_KEPT:
            (head if is_first else body).copy(source, start, length + 12)
        elif not kind[0] & 0x20:
            raise FormatError("The PNG has an unknown critical chunk.")
    orientation = _orientation(source)
    if orientation != 1:
        head.write(_png_chunk(b"eXIf", _orientation_block(orientation)))
    return _joined(head, body, _png_chunk(b"IEND", b""))


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# --- WebP. RFC 9649, 2.

_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ICCP"})
_FRAME_KEPT = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_FRAME_HEAD = 16
_EXTENDED_SIZE = 10
_HAS_EXIF, _HAS_XMP = 0x08, 0x04


def _clean_webp(source: ByteSource) -> Clean:
    head, body, header = CopyPlan(), CopyPlan(), b""
    end = 8 + struct.unpack("<I", source.at(4, 4))[0]
    source.check(0, end)
    for kind, start, length in _riff_chunks(source, 12, end):
        if kind == b"VP8X":
            if length != _EXTENDED_SIZE or header:
                raise FormatError("The WebP’s header is not valid.")
            header = source.at(start, length)
        elif kind == b"ANMF":
            _clean_frame(source, start, length, body)
        elif kind in _WEBP_KEPT:
            _copy_chunk(source, kind, start, length, body)
    orientation = _orientation(source) if header else 1
    if orientation != 1:
        block = _orientation_block(orientation)
        body.write(_riff_head(b"EXIF", len(block)) + block)
    if header:
        flags = header[0] & ~(_HAS_EXIF | _HAS_XMP) | (_HAS_EXIF if orientation != 1 else 0)
        header = _riff_head(b"VP8X", _EXTENDED_SIZE) + bytes([flags]) + header[1:]
    head.write(_riff_head(b"RIFF", 4 + len(header) + body.size) + b"WEBP" + header)
    return _joined(head, body, b"")


def _clean_frame(source: ByteSource, start: int, length: int, body: CopyPlan) -> None:
    chunks = _riff_chunks(source, start + _FRAME_HEAD, start + length)
    kept = [chunk for chunk in chunks if chunk[0] in _FRAME_KEPT]
    size = _FRAME_HEAD + sum(8 + inside + inside % 2 for _, _, inside in kept)
    body.write(_riff_head(b"ANMF", size) + source.at(start, _FRAME_HEAD))
    for kind, at, inside in kept:
        _copy_chunk(source, kind, at, inside, body)


def _riff_chunks(source: ByteSource, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and length of each chunk between two offsets."""
    while position + 8 <= end:
        source.count_part()
        kind, length = struct.unpack("<4sI", source.at(position, 8))
        if position + 8 + length > end:
            raise FormatError("A chunk reaches beyond the end of its parent.")
        yield kind, position + 8, length
        position += 8 + length + length % 2


def _riff_head(kind: bytes, length: int) -> bytes:
    return kind + struct.pack("<I", length)


def _copy_chunk(source: ByteSource, kind: bytes, start: int, length: int, body: CopyPlan) -> None:
    body.write(_riff_head(kind, length))
    body.copy(source, start, length)
    body.write(b"\0" * (length % 2))


# --- TIFF 6.0. Only the first page is kept, with the tags that its pixels need.

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# fmt: off
_TIFF_KEPT = frozenset({
    256, 257, 258, 259, 262, 266, 274, 277, 278, 280, 281, 282, 283, 284, 292, 293, 296, 301, 317, 318, 319,
    320, 322, 323, 332, 334, 336, 338, 339, 529, 530, 531, 532, 34675,
})
# fmt: on
_OFFSETS, _COUNTS = {273: 279, 324: 325}, {279: 273, 325: 324}
_COMPRESSION = 259
# None, CCITT, LZW, Deflate, PackBits, LZMA, Zstandard: these contain only pixels. JPEG has segments.
_PLAIN_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000})
_TIFF_MOST_BYTES = 16 * 1024 * 1024


def _clean_tiff(source: ByteSource) -> Clean:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(source.at(0, 4))
    if order is None:
        raise FormatError("This kind of TIFF cannot be cleaned.")
    tags = _read_tags(source, order)
    strips = _strips(source, order, tags)
    kept = {tag: found for tag, found in tags.items() if tag in _TIFF_KEPT}
    offsets_tag = next(tag for tag in _OFFSETS if tag in tags)
    lengths = [length for _, length in strips]
    kept[_OFFSETS[offsets_tag]] = (4, struct.pack(f"{order}{len(lengths)}I", *lengths))
    # A placeholder of the final length. The offsets of strips are known after everything else.
    kept[offsets_tag] = (4, bytes(4 * len(strips)))
    at = 8 + 6 + 12 * len(kept) + sum(len(data) + len(data) % 2 for _, data in kept.values() if len(data) > 4)
    starts = []
    for length in lengths:
        starts.append(at)
        at += length + length % 2
    if at >= 2**32:
        raise FormatError("The TIFF is larger than 4 GB.")
    kept[offsets_tag] = (4, struct.pack(f"{order}{len(starts)}I", *starts))
    plan = CopyPlan()
    plan.write(source.at(0, 4) + struct.pack(f"{order}I", 8) + _directory(order, kept))
    for start, length in strips:
        plan.copy(source, start, length)
        plan.write(b"\0" * (length % 2))
    return plan.done()


def _read_tags(source: ByteSource, order: str) -> dict[int, tuple[int, bytes]]:
    """Return type and raw value of each needed tag of the first directory."""
    start = struct.unpack(f"{order}I", source.at(4, 4))[0]
    number = struct.unpack(f"{order}H", source.at(start, 2))[0]
    tags: dict[int, tuple[int, bytes]] = {}
    total = 0
    for index in range(number):
        entry = source.at(start + 2 + 12 * index, 12)
        tag, kind, count = struct.unpack(f"{order}HHI", entry[:8])
        if tag not in _TIFF_KEPT and tag not in _OFFSETS and tag not in _COUNTS:
            continue
        length = _TIFF_SIZES.get(kind, 0) * count
        total += length
        if not length or total > _TIFF_MOST_BYTES:
            raise FormatError("The TIFF has a tag that cannot be read.")
        inside = entry[8 : 8 + length]
        tags[tag] = (kind, inside if length <= 4 else source.at(_number(order, entry[8:]), length))
    return tags


def _number(order: str, data: bytes) -> int:
    found: int = struct.unpack(f"{order}I", data)[0]
    return found


def _strips(source: ByteSource, order: str, tags: dict[int, tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Return start and length of each strip or tile."""
    if (
        _numbers(order, tags.get(_COMPRESSION, (3, struct.pack(f"{order}H", 1))))[0]
        not in _PLAIN_COMPRESSIONS
    ):
        raise FormatError("The TIFF’s compression may contain more than pixels.")
    tag = next((tag for tag in _OFFSETS if tag in tags and _OFFSETS[tag] in tags), None)
    if tag is None or sum(other in tags for other in _OFFSETS) != 1:
        raise FormatError("The TIFF has no valid offsets of strips or tiles.")
    starts, lengths = _numbers(order, tags[tag]), _numbers(order, tags[_OFFSETS[tag]])
    # Overlapping strips could turn a small file into a large one.
    if len(starts) != len(lengths) or len(starts) > MOST_PARTS or sum(lengths) > source.size:
        raise FormatError("The strips or tiles of the TIFF overlap.")
    for start, length in zip(starts, lengths, strict=True):
        source.check(start, length)
    return list(zip(starts, lengths, strict=True))


def _numbers(order: str, found: tuple[int, bytes]) -> tuple[int, ...]:
    kind, data = found
    letter = {3: "H", 4: "I"}.get(kind)
    if letter is None:
        raise FormatError("The TIFF has a tag that cannot be read.")
    return struct.unpack(f"{order}{len(data) // _TIFF_SIZES[kind]}{letter}", data)


def _directory(order: str, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """Return the only directory, at byte 8, followed by the values that do not fit into it."""
    entries, values = b"", b""
    behind = 8 + 6 + 12 * len(tags)
    for tag, (kind, data) in sorted(tags.items()):
        entries += struct.pack(f"{order}HHI", tag, kind, len(data) // _TIFF_SIZES[kind])
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", behind + len(values))
            values += data + b"\0" * (len(data) % 2)
    return struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0" + values


_FORMATS: tuple[tuple[re.Pattern[bytes], Callable[[ByteSource], Clean]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _clean_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _clean_png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _clean_webp),
    (re.compile(rb"II\*\0|MM\0\*"), _clean_tiff),
    (re.compile(rb"....ftyp", re.DOTALL), clean_boxes),
    (re.compile(rb"\x1aE\xdf\xa3"), clean_webm),
)
