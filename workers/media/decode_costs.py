"""Limits on the cost of decoding an image's pixels, checked by workers before decoding.

Unlike the limits on headers, they need the whole file in memory.
"""

from __future__ import annotations

import io
import re

from workers.formats import png
from workers.formats.byte_source import ByteSource, FormatError, TooManyPartsError
from workers.formats.header_errors import TOO_COMPLEX, HeadError
from workers.tiff.headers import jpeg_strips

# Each scan of a progressive JPEG is a pass over all its pixels: up to 0.2 seconds for 49 megapixels.
# The usual ten scans are allowed for the largest accepted images.
MOST_SCANNED_PIXELS = 650_000_000
MOST_SCANS = 200
MOST_SEGMENTS = 8192
# Arithmetic coding costs a multiple of Huffman coding.
_ARITHMETIC_WEIGHT = 4
# Pillow reads PNG chunk by chunk. Encoders write chunks of 8 KiB or more.
MOST_CHUNKS = 20_000
_LEAST_CHUNK_BYTES = 1024
MOST_LATE_CHUNKS = 4096
MOST_LATE_PACKED_CHUNKS = 100

TOO_MANY_CHUNKS = "This PNG has too many chunks. Save it again with another program."

# In scan data, 0xFF is followed by zero, a restart marker or fill bytes. Any other byte makes it a marker.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_EOI, _SOI, _SOS = 0xD9, 0xD8, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}


def check_cost(data: bytes, format: str, size: tuple[int, int]) -> None:
    """Refuse an image that would keep a worker busy for long.

    Args:
        format: Pillow's name of the format.
        size: width and height in pixels.

    Raises:
        HeadError: it has too many scans for its pixels, or too many chunks.
    """
    if format == "JPEG":
        _check_scans(_weigh_scans(data, 0, len(data)), size[0] * size[1])
    elif format == "PNG":
        _check_chunks(data)
    elif format == "TIFF":
        _check_jpeg_strips(data, size)


# --- JPEG. ITU-T T.81, annex B.


def _check_scans(scans: int, pixels: int) -> None:
    most = min(MOST_SCANS, MOST_SCANNED_PIXELS // max(1, pixels))
    if scans > max(1, most):
        raise HeadError(
            "too_complex",
            f"This JPEG has too many scans for its {pixels / 1e6:.0f} megapixels: at most {most} are "
            "accepted. Save it as a baseline JPEG.",
        )


def _weigh_scans(data: bytes, start: int, end: int) -> int:
    """Return the number of a JPEG's scans, as far as its decoder reads them.

    Raises:
        HeadError: it has too many segments.
    """
    position, scans, is_sequential, weight, components = start + 2, 0, False, 1, 0
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(data, position, end)
        if found is None or data[found.end() - 1] == _EOI:
            return scans
        position, marker = found.end(), data[found.end() - 1]
        if marker == _SOI:
            continue
        if marker in _FRAMES:
            components = data[position + 7] if position + 7 < end else 0
            is_sequential = marker in _SEQUENTIAL
            weight = _ARITHMETIC_WEIGHT if marker in _ARITHMETIC else 1
        elif marker == _SOS:
            scans += weight
            is_complete = is_sequential and data[position + 2 : position + 3] == bytes([components])
            # The decoder stops after a scan with all components.
            if is_complete or scans > MOST_SCANS:
                return scans
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise HeadError("too_complex", TOO_COMPLEX)


def _check_jpeg_strips(data: bytes, size: tuple[int, int]) -> None:
    """Check the JPEGs in a TIFF: each strip or tile may be one."""
    scanned = 0
    for start, end, pixels in jpeg_strips(io.BytesIO(data), size[0] * size[1]):
        scans = _weigh_scans(data, start, end)
        _check_scans(scans, pixels)
        scanned += scans * pixels
        if scanned > MOST_SCANNED_PIXELS:
            _check_scans(scans + 1, MOST_SCANNED_PIXELS)


# --- PNG.


def _check_chunks(data: bytes) -> None:
    source = ByteSource(io.BytesIO(data), MOST_CHUNKS + len(data) // _LEAST_CHUNK_BYTES)
    late = packed = 0
    has_pixels = False
    try:
        for chunk in png.walk(source):
            has_pixels = has_pixels or chunk.kind == b"IDAT"
            late += has_pixels and chunk.kind not in (b"IDAT", b"IEND")
            packed += has_pixels and chunk.kind in (b"zTXt", b"iTXt", b"iCCP")
            if late > MOST_LATE_CHUNKS or packed > MOST_LATE_PACKED_CHUNKS:
                raise HeadError("too_complex", TOO_MANY_CHUNKS)
    except TooManyPartsError as error:
        raise HeadError("too_complex", TOO_MANY_CHUNKS) from error
    except FormatError:
        # The file is damaged. The decoder gives the better message.
        return
