"""Convert pixels from the color space of their file to sRGB, with Little CMS or tables."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from workers.color.cicp import BT709, PRIMARIES, SRGB_CURVE, CodePoints
from workers.color.hdr import make_hdr_conversion
from workers.color.icc import (
    evaluate_curve,
    find_colorants,
    read_data_space,
    read_tags,
    read_xyz,
    without_tags,
    write_rgb_profile,
)
from workers.color.spaces import ColorSpace, Profile
from workers.color.tables import ColorConversion, encode_srgb

Levels = NDArray[np.uint8]

# Largest difference from sRGB, in steps of 255, without conversion. Profiles of sRGB differ by one or two.
TOLERANCE = 2
_FITTING = {"RGB": b"RGB ", "CMYK": b"CMYK"}
_FAMILIES = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "LAB": "LAB", "I": "L", "F": "L"}
# Browsers ignore these tags, and their chains of steps can be long.
_FLOAT_TAGS = frozenset({b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"B2D0", b"B2D1", b"B2D2", b"B2D3"})
_PIXELS_AT_ONCE = 1 << 20
_CURVE_TAGS = (b"rTRC", b"gTRC", b"bTRC")
_COLORANT_TAGS = (b"rXYZ", b"gXYZ", b"bXYZ")
_ERRORS = (OSError, TypeError, ValueError, ImageCms.PyCMSError)
# By digest and family, without the profile's bytes, so that many fit.
_verdicts: dict[tuple[bytes, str], bool] = {}
_MOST_VERDICTS = 4096


def needs_conversion(space: ColorSpace, mode: str) -> bool:
    """Return whether pixels of this mode of Pillow differ from sRGB.

    A profile that does not match the pixels, or cannot be read, is ignored.
    """
    family = "L" if mode.startswith("I;16") else _FAMILIES.get(mode, "RGB")
    if space is None or family == "LAB":
        return False
    return isinstance(space, CodePoints) or _differs(space, family)


def is_gray_profile(space: ColorSpace) -> TypeGuard[Profile]:
    """Return whether a color space is a gray profile."""
    return isinstance(space, Profile) and read_data_space(space.data) == b"GRAY"


def convert(image: Image.Image, space: ColorSpace) -> Image.Image | None:
    """Return an opaque image of mode L, RGB, CMYK or I;16 in sRGB, as L or RGB.

    Returns:
        None if the color space does not match the pixels.
    """
    if space is None:
        return None
    if image.mode.startswith("I;16") or image.mode == "L":
        return _convert_gray(image, space)
    if isinstance(space, CodePoints):
        return _convert_by_tables(image, make_hdr_conversion(space)) if image.mode == "RGB" else None
    transform = _build(space, image.mode)
    return None if transform is None else transform.apply(image)


def convert_deep_colors(high: Image.Image, low: Image.Image, conversion: ColorConversion) -> Image.Image:
    """Return sRGB of 16-bit colors, given as two images (RGB or RGBA) of their high and low bytes."""
    result = np.empty((high.height, high.width, 3), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // high.width)
    for top in range(0, high.height, rows):
        band = (0, top, high.width, min(top + rows, high.height))
        samples = np.asarray(high.crop(band))[..., :3].astype(np.uint16) << 8
        samples |= np.asarray(low.crop(band))[..., :3]
        result[top : top + rows] = conversion.convert(samples)
    return Image.fromarray(result)


def find_conversion(space: ColorSpace) -> ColorConversion | None:
    """Return the conversion of RGB to sRGB by curves and a matrix.

    Returns:
        None if the profile uses lookup tables, or is not for RGB.
    """
    if isinstance(space, CodePoints):
        return make_hdr_conversion(space)
    return None if space is None else _make_matrix_conversion(space)


@lru_cache(maxsize=4)
def _make_matrix_conversion(profile: Profile) -> ColorConversion | None:
    """Return the conversion of a matrix/TRC profile, or None for other profiles."""
    tags = read_tags(profile.data)
    if read_data_space(profile.data) != b"RGB " or b"A2B0" in tags:
        return None
    levels = np.arange(65536) / 65535.0
    try:
        curves = [evaluate_curve(tags.get(name, b""), levels) for name in _CURVE_TAGS]
        colorants = np.stack([read_xyz(tags.get(name, b"")) for name in _COLORANT_TAGS], axis=1)
    except ValueError:
        return None
    matrix = np.linalg.solve(find_colorants(PRIMARIES[BT709]), colorants)
    return ColorConversion(np.stack(curves, axis=1).astype(np.float32), matrix.astype(np.float32))


def _convert_by_tables(image: Image.Image, conversion: ColorConversion) -> Image.Image:
    return Image.fromarray(conversion.convert(np.asarray(image)))


def _convert_gray(image: Image.Image, space: ColorSpace) -> Image.Image | None:
    levels = _find_levels(space)
    if levels is None:
        return None
    is_neutral = int(np.ptp(levels, axis=1).max()) <= 1
    channels = [levels[:, 1]] if is_neutral else [levels[:, index] for index in range(3)]
    if image.mode == "L":
        converted = [image.point(channel[::257].tolist()) for channel in channels]
    else:
        values = np.asarray(image)
        converted = [Image.fromarray(channel[values]) for channel in channels]
    return converted[0] if is_neutral else Image.merge("RGB", converted)


def _differs(profile: Profile, family: str) -> bool:
    """Return whether a profile differs from sRGB, cached by profile: most photos share a few."""
    key = (profile.digest, family)
    verdict = _verdicts.get(key)
    if verdict is None:
        if len(_verdicts) >= _MOST_VERDICTS:
            _verdicts.clear()
        verdict = _verdicts[key] = _compare(profile, family)
    return verdict


def _compare(profile: Profile, family: str) -> bool:
    if family == "L":
        levels = _find_levels(profile)
        return levels is not None and _is_far(levels[::257], np.arange(256)[:, None])
    transform = _build(profile, family)
    if transform is None or family != "RGB":
        return transform is not None
    probe = _make_probe()
    return _is_far(np.asarray(transform.apply(probe)), np.asarray(probe))


def _is_far(found: NDArray[np.uint8], wanted: NDArray[np.generic]) -> bool:
    return int(np.abs(found.astype(np.int16) - wanted.astype(np.int16)).max()) > TOLERANCE


@lru_cache(maxsize=1)
def _make_probe() -> Image.Image:
    """Return colors that cover the RGB cube, and all grays."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    grays = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    return Image.fromarray(np.concatenate([cube, grays])[None])


@lru_cache(maxsize=1)
def _make_srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(write_rgb_profile(PRIMARIES[BT709], SRGB_CURVE)))


# Small, because the cache keeps the bytes of profiles, which may be large.
@lru_cache(maxsize=4)
def _build(profile: Profile, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of 8-bit pixels, or None if the profile does not match them."""
    if read_data_space(profile.data) != _FITTING.get(mode):
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(without_tags(profile.data, _FLOAT_TAGS)))
        return ImageCms.buildTransform(opened, _make_srgb(), mode, "RGB")
    except _ERRORS:
        return None


@lru_cache(maxsize=4)
def _find_levels(space: Profile | CodePoints) -> Levels | None:
    """Return the sRGB colors of 65,536 gray levels, shape (65536, 3), or None."""
    if is_gray_profile(space):
        return _find_levels_of_curve(space)
    conversion = find_conversion(space)
    if conversion is not None:
        grays = np.repeat(np.arange(65536, dtype=np.uint16)[None, :, None], 3, axis=2)
        levels: Levels = conversion.convert(grays)[0]
        return levels
    transform = _build(space, "RGB") if isinstance(space, Profile) else None
    return None if transform is None else _spread(transform.apply(_make_ramp()))


def _find_levels_of_curve(profile: Profile) -> Levels | None:
    """Return levels by the curve of a gray profile, or None if browsers do not support the curve."""
    if profile.data[20:24] != b"XYZ ":
        return None
    try:
        light = evaluate_curve(read_tags(profile.data).get(b"kTRC", b""), np.arange(65536) / 65535.0)
    except ValueError:
        return None
    levels: Levels = np.rint(255 * encode_srgb(light)).astype(np.uint8)
    return np.repeat(levels[:, None], 3, axis=1)


def _make_ramp() -> Image.Image:
    return Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))


def _spread(ramp: Image.Image) -> Levels:
    """Return levels interpolated between those of a ramp of 256 colors."""
    known = np.asarray(ramp)[0].astype(np.float64)
    at = np.arange(65536) / 257.0
    channels = [np.interp(at, np.arange(256), known[:, index]) for index in range(3)]
    spread: Levels = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return spread
