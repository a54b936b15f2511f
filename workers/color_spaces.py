"""The color space that a file names: its ICC profile, the chunks of a PNG, the boxes of an AVIF.

What browsers ignore is ignored here, so that a result looks like the original beside it: the ColorSpace of
EXIF, and the TransferFunction, WhitePoint and PrimaryChromaticities tags of TIFF.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import BinaryIO

from PIL import ImageFile

from workers.avif_colors import read_avif_code_points
from workers.cicp import (
    BT709,
    CAMERA_CURVES,
    CURVES,
    HLG,
    LOGARITHMIC,
    PQ,
    PRIMARIES,
    SRGB,
    CodePoints,
    gamma_curve,
)
from workers.header_errors import HeadError
from workers.icc import Chromaticities, Curve, read_tags, write_rgb_profile

# The largest profiles of printers have four. Little CMS copies them several times.
MOST_PROFILE_BYTES = 8 * 1024 * 1024
MOST_CHUNKS = 4096

TOO_LONG = (
    f"The color profile of this picture has more than {MOST_PROFILE_BYTES // 2**20} MB. "
    "Convert the picture to sRGB."
)

NO_LOGARITHMS = (
    "The colors of this AVIF are coded by a logarithmic curve, which cannot be read here. "
    "Convert the picture to sRGB."
)


@dataclass(frozen=True)
class Profile:
    """An ICC profile; two with the same bytes are equal."""

    digest: bytes
    data: bytes = field(compare=False, repr=False)

    @classmethod
    def of(cls, data: bytes) -> Profile:
        return cls(hashlib.blake2b(data, digest_size=16).digest(), data)


# None is sRGB. Code points stand for PQ and HLG, which no profile of curves and primaries describes.
ColorSpace = Profile | CodePoints | None


def read_color_space(image: ImageFile.ImageFile, stream: BinaryIO) -> ColorSpace:
    """Return the color space that an opened file names.

    Args:
        stream: the file, which is read up to its pixels. Left anywhere.

    Raises:
        HeadError: the profile is too long.
    """
    if image.format == "PNG":
        return _read_png(image, stream)
    space = _read_icc(image.info.get("icc_profile"))
    if space is None and image.format == "AVIF":
        points = read_avif_code_points(stream)
        space = None if points is None else _find_avif_space(points)
    return space


def _find_avif_space(points: CodePoints) -> ColorSpace:
    """Read the camera curves as sRGB's: browsers do so in what is coded as video is."""
    if points.transfer in LOGARITHMIC:
        raise HeadError("unreadable", NO_LOGARITHMS)
    if points.transfer in CAMERA_CURVES:
        points = replace(points, transfer=SRGB)
    return find_coded_space(points)


def _read_icc(profile: object) -> ColorSpace:
    if not isinstance(profile, bytes) or not profile:
        return None
    if len(profile) > MOST_PROFILE_BYTES:
        raise HeadError("too_complex", TOO_LONG)
    return _find_profile(Profile.of(profile))


def _find_profile(profile: Profile) -> ColorSpace:
    """Prefer the code points that a profile may hold, as browsers do: ICC.1:2022, 9.2.17."""
    if profile.data[36:40] != b"acsp":
        return None
    tag = read_tags(profile.data).get(b"cicp", b"")
    if tag[:4] == b"cicp" and len(tag) >= 12 and tag[10:12] == b"\0\1":
        points = CodePoints(tag[8], tag[9])
        if points.primaries in PRIMARIES and points.transfer in (*CURVES, PQ, HLG):
            return find_coded_space(points)
    return profile


@lru_cache(maxsize=64)
def find_coded_space(points: CodePoints) -> ColorSpace:
    """Return the color space of code points; codes that say nothing, or that are not known, are sRGB's."""
    primaries = points.primaries if points.primaries in PRIMARIES else BT709
    if points.transfer in (PQ, HLG):
        return CodePoints(primaries, points.transfer, points.peak)
    transfer = points.transfer if points.transfer in CURVES else SRGB
    if (primaries, transfer) == (BT709, SRGB):
        return None
    return _make_profile(PRIMARIES[primaries], CURVES[transfer])


@lru_cache(maxsize=64)
def _make_profile(chromaticities: Chromaticities, curve: Curve) -> Profile:
    return Profile.of(write_rgb_profile(chromaticities, curve))


# --- PNG. W3C, Portable Network Graphics (Third Edition), 4.3 and 11.3.2.

_COLOR_CHUNKS = frozenset({b"cICP", b"sRGB", b"gAMA", b"cHRM", b"cLLI", b"mDCV"})
_MOST_COLOR_CHUNK = 64
# A curve of this exponent, or nearly, and no primaries: the image is sRGB for browsers.
_USUAL_EXPONENT, _NEARLY = 2.2, 0.05


def _read_png(image: ImageFile.ImageFile, stream: BinaryIO) -> ColorSpace:
    """cICP goes before iCCP, iCCP before sRGB, sRGB before gAMA and cHRM."""
    chunks = _read_chunks(stream)
    points = _read_cicp(chunks)
    if points is not None:
        return find_coded_space(points)
    space = _read_icc(image.info.get("icc_profile"))
    if space is not None or b"sRGB" in chunks:
        return space
    return _read_gamma(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))


def _read_chunks(stream: BinaryIO) -> dict[bytes, bytes]:
    """Return the chunks before the pixels that say what the colors are."""
    found: dict[bytes, bytes] = {}
    position = 8
    for _ in range(MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        kind, length = head[4:], int.from_bytes(head[:4], "big")
        if len(head) < 8 or kind in (b"IDAT", b"IEND"):
            break
        if kind in _COLOR_CHUNKS and length <= _MOST_COLOR_CHUNK:
            found.setdefault(kind, stream.read(length))
        position += 12 + length
    return found


def _read_cicp(chunks: dict[bytes, bytes]) -> CodePoints | None:
    """Return code points that can be shown: RGB of full range, known primaries and curve."""
    data = chunks.get(b"cICP", b"")
    if len(data) != 4 or data[2:] != b"\0\1":
        return None
    if data[0] not in PRIMARIES or data[1] not in (*CURVES, PQ, HLG):
        return None
    return CodePoints(data[0], data[1], _read_peak(chunks))


def _read_peak(chunks: dict[bytes, bytes]) -> float:
    """Return the light of the brightest pixel, else of the display it was made for, in cd/m²."""
    most = int.from_bytes(chunks.get(b"cLLI", b"")[:4], "big")
    display = int.from_bytes(chunks.get(b"mDCV", b"")[16:20], "big")
    return (most or display) / 10_000


def _read_gamma(gamma: bytes, primaries: bytes) -> ColorSpace:
    """gAMA alone is a curve over sRGB's primaries; cHRM alone says nothing."""
    encoding = int.from_bytes(gamma[:4], "big") / 100_000
    if not encoding:
        return None
    if len(primaries) < 32:
        if abs(encoding * _USUAL_EXPONENT - 1) < _NEARLY:
            return None
        chromaticities = PRIMARIES[BT709]
    else:
        values = [value / 100_000 for value in struct.unpack(">8I", primaries[:32])]
        chromaticities = (*values[:2], *values[2:4], *values[4:6], *values[6:8])
    try:
        return _make_profile(chromaticities, gamma_curve(1 / encoding))
    except ValueError:
        return None
