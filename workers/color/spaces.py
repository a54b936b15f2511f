"""Find the color space of a file: its ICC profile, PNG chunks or AVIF boxes.

Metadata that browsers ignore is ignored here too, so that a result looks like the original: the ColorSpace of
EXIF, and the TransferFunction, WhitePoint and PrimaryChromaticities tags of TIFF.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import BinaryIO

from PIL import ImageFile

from workers.color.avif_code_points import read_avif_code_points
from workers.color.cicp import (
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
from workers.color.icc import Chromaticities, Curve, is_readable, read_tags, write_rgb_profile
from workers.color.png_chunks import (
    MOST_PROFILE_BYTES,
    TOO_LONG,
    read_color_chunks,
    read_gamma,
    read_png_code_points,
)
from workers.formats.header_errors import HeadError

NO_LOGARITHMS = (
    "The colors of this AVIF have a logarithmic curve, which is not supported. Convert the image to sRGB."
)


@dataclass(frozen=True)
class Profile:
    """An ICC profile. Profiles with the same bytes are equal."""

    digest: bytes
    data: bytes = field(compare=False, repr=False)

    @classmethod
    def of(cls, data: bytes) -> Profile:
        return cls(hashlib.blake2b(data, digest_size=16).digest(), data)


# None is sRGB. Code points are for PQ and HLG, which matrix/TRC profiles cannot describe.
ColorSpace = Profile | CodePoints | None


def read_color_space(image: ImageFile.ImageFile, stream: BinaryIO) -> ColorSpace:
    """Return the color space of an opened file.

    Args:
        stream: the file, which is read up to its pixels. Its position is moved.

    Raises:
        HeadError: the profile is too long.
    """
    if image.format == "PNG":
        return _read_png(image, stream)
    space = _read_icc(image.info.get("icc_profile"))
    if space is None and image.format == "AVIF":
        points = read_avif_code_points(stream)
        if points is not None and points.transfer in LOGARITHMIC:
            raise HeadError("unreadable", NO_LOGARITHMS)
        space = None if points is None else _find_displayed_space(points)
    return space


@lru_cache(maxsize=64)
def find_coded_space(points: CodePoints) -> ColorSpace:
    """Return the color space of code points. Unspecified and unknown codes count as sRGB's."""
    primaries = points.primaries if points.primaries in PRIMARIES else BT709
    if points.transfer in (PQ, HLG):
        return CodePoints(primaries, points.transfer, points.peak)
    transfer = points.transfer if points.transfer in CURVES else SRGB
    if (primaries, transfer) == (BT709, SRGB):
        return None
    return _make_profile(PRIMARIES[primaries], CURVES[transfer])


def _find_displayed_space(points: CodePoints) -> ColorSpace:
    """Return the color space with camera curves as sRGB's: browsers do so everywhere except in cICP."""
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
    """Return a profile, or its code points if it has them, as browsers do: ICC.1:2022, 9.2.17."""
    if not is_readable(profile.data):
        return None
    tags = read_tags(profile.data)
    # Profiles with only code points are not valid.
    tag = tags.get(b"cicp", b"") if b"A2B0" in tags or b"rTRC" in tags else b""
    if tag[:4] == b"cicp" and len(tag) >= 12 and tag[10:12] == b"\0\1":
        points = CodePoints(tag[8], tag[9])
        if points.primaries in PRIMARIES and points.transfer in (*CURVES, PQ, HLG):
            return _find_displayed_space(points)
    return profile


@lru_cache(maxsize=64)
def _make_profile(chromaticities: Chromaticities, curve: Curve) -> Profile:
    return Profile.of(write_rgb_profile(chromaticities, curve))


def _read_png(image: ImageFile.ImageFile, stream: BinaryIO) -> ColorSpace:
    """Return the color space of a PNG. Priority: cICP, iCCP, sRGB, then gAMA with cHRM."""
    chunks = read_color_chunks(stream)
    points = read_png_code_points(chunks)
    if points is not None:
        return find_coded_space(points)
    space = _read_icc(image.info.get("icc_profile"))
    if space is not None or b"sRGB" in chunks:
        return space
    found = read_gamma(chunks)
    if found is None:
        return None
    try:
        return _make_profile(found[0], gamma_curve(found[1]))
    except ValueError:
        return None
