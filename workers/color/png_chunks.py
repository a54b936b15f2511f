"""Read the color chunks of a PNG: cICP, iCCP, sRGB, gAMA, cHRM, cLLI and mDCV.

Source: W3C, Portable Network Graphics (Third Edition), 4.3 and 11.3.2. Pillow does not read cICP, and
refuses images with a short gAMA or a profile of more than 1 MB. As in browsers, chunks of the wrong length
are ignored here, and the first of two chunks of a kind counts.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from itertools import takewhile
from typing import BinaryIO

from PIL import ImageFile, PngImagePlugin

from workers.color.cicp import BT709, CURVES, HLG, PQ, PRIMARIES, CodePoints
from workers.color.icc import Chromaticities
from workers.formats import png
from workers.formats.byte_source import ByteSource, FormatError
from workers.formats.header_errors import HeadError

# The largest profiles of printers have four. Little CMS copies them several times.
MOST_PROFILE_BYTES = 8 * 1024 * 1024
MOST_CHUNKS = 4096

TOO_LONG = (
    f"The color profile of this image has more than {MOST_PROFILE_BYTES // 2**20} MB. "
    "Convert the image to sRGB."
)
_LENGTHS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"cLLI": 8, b"mDCV": 24}
# Browsers treat an image with about this exponent and without primaries as sRGB.
_USUAL_EXPONENT, _NEARLY = 2.2, 0.05

Chunks = dict[bytes, bytes]


def register() -> None:
    """Make Pillow read color chunks with this module."""
    stream = PngImagePlugin.PngStream
    readers = {"iCCP": _read_profile, "gAMA": _skip, "cHRM": _skip, "sRGB": _skip}
    for name, read in readers.items():
        setattr(stream, f"chunk_{name}", read)


def read_color_chunks(stream: BinaryIO) -> Chunks:
    """Return the color chunks before the pixels."""
    found: Chunks = {}
    source = ByteSource(stream, MOST_CHUNKS)
    has_palette = False
    # Of a damaged file, keep the chunks up to the damage.
    with suppress(FormatError):
        for chunk in takewhile(lambda chunk: chunk.kind != b"IDAT", png.walk(source)):
            has_palette = has_palette or chunk.kind == b"PLTE"
            is_late = has_palette and chunk.kind == b"cICP"
            if _LENGTHS.get(chunk.kind) == chunk.length and not is_late:
                found.setdefault(chunk.kind, source.at(chunk.body, chunk.length))
    return found


def read_png_code_points(chunks: Chunks) -> CodePoints | None:
    """Return supported code points: full-range RGB with known primaries and curve. None: others."""
    data = chunks.get(b"cICP", b"")
    if data[2:] != b"\0\1" or data[0] not in PRIMARIES or data[1] not in (*CURVES, PQ, HLG):
        return None
    return CodePoints(data[0], data[1], _read_peak(chunks))


def read_gamma(chunks: Chunks) -> tuple[Chromaticities, float] | None:
    """Return primaries and exponent of the curve. gAMA alone implies sRGB's primaries; cHRM alone: None."""
    encoding = int.from_bytes(chunks.get(b"gAMA", b""), "big") / 100_000
    if not encoding:
        return None
    if b"cHRM" in chunks:
        wx, wy, rx, ry, gx, gy, bx, by = (value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        return (wx, wy, rx, ry, gx, gy, bx, by), 1 / encoding
    is_usual = abs(encoding * _USUAL_EXPONENT - 1) < _NEARLY
    return None if is_usual else (PRIMARIES[BT709], 1 / encoding)


def _skip(stream: PngImagePlugin.PngStream, pos: int, length: int) -> bytes:  # noqa: ARG001 - Pillow passes both.
    return ImageFile._safe_read(stream.fp, length) if stream.fp is not None else b""


def _read_profile(stream: PngImagePlugin.PngStream, pos: int, length: int) -> bytes:
    """Store the first profile of a PNG in `info`. Profiles that cannot be decompressed are ignored."""
    data = _skip(stream, pos, length)
    _name, _zero, rest = data.partition(b"\0")
    if "icc_profile" in stream.im_info or rest[:1] != b"\0":
        return data
    # Only the first is decompressed, because each may cost as much as the longest profile.
    stream.im_info["icc_profile"] = None
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(rest[1:], MOST_PROFILE_BYTES)
    except zlib.error:
        return data
    if unpacker.unconsumed_tail:
        raise HeadError("too_complex", TOO_LONG)
    stream.im_info["icc_profile"] = profile
    return data


def _read_peak(chunks: Chunks) -> float:
    """Return the luminance of the brightest pixel, else of the mastering display, in cd/m²."""
    most = int.from_bytes(chunks.get(b"cLLI", b"")[:4], "big")
    display = int.from_bytes(chunks.get(b"mDCV", b"")[16:20], "big")
    return (most or display) / 10_000
