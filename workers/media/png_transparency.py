"""The transparent color of a PNG (chunk tRNS), compared at the full depth of the samples.

Pillow scales gray samples of 2 and 4 bits but not the color to compare them with, and drops the low bytes of
16-bit RGB. PNG (Third Edition), 11.3.1. Invalid chunks are read as in Chromium: the excess of a long chunk is
ignored, and short or misplaced chunks are ignored completely.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFile, PngImagePlugin

from workers.media.deep_colors import LowBytes

# Key of the transparent color in `info`.
KEY = "transparent color"
_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "RGB": 8, "RGB;16B": 16}
_GRAY_WITH_ALPHA = "LA;16B"


class TransparentColor(NamedTuple):
    """One value for gray, three for RGB, each of `bits` bits."""

    bits: int
    values: tuple[int, ...]

    @property
    def bytes(self) -> tuple[int, ...]:
        """The values as Pillow scales samples: their high bytes, or widened to 8 bits."""
        if self.bits == 16:
            return tuple(value >> 8 for value in self.values)
        return tuple(value * 255 // ((1 << self.bits) - 1) for value in self.values)


class _Stream(PngImagePlugin.PngStream):
    """Pillow's chunk reader with its own method for tRNS."""

    def chunk_tRNS(self, pos: int, length: int) -> bytes:
        data = ImageFile._safe_read(self.fp, length) if self.fp is not None else b""
        is_in_place = not self.im_tile and not {"transparency", KEY} & set(self.im_info)
        if not is_in_place:
            return data
        if self.im_mode == "P":
            if self.im_palette is not None and data:
                self.im_info["transparency"] = data[: len(self.im_palette[1]) // 3]
            return data
        number = 3 if self.im_mode == "RGB" else 1
        if self.im_rawmode in _BITS and length >= 2 * number:
            bits = _BITS[self.im_rawmode]
            mask = 0xFFFF if bits == 16 else 0xFF
            values = struct.unpack_from(f">{number}H", data)
            self.im_info[KEY] = TransparentColor(bits, tuple(value & mask for value in values))
        return data


def register() -> None:
    """Make Pillow read tRNS with this module."""
    # Pillow looks the name up each time it opens a PNG.
    PngImagePlugin.PngStream = _Stream  # type: ignore[misc]  # a subclass takes its place


def is_deep_gray_with_alpha(image: ImageFile.ImageFile) -> bool:
    """Return whether an image that is not decoded yet is a PNG of gray and alpha, both of 16 bits."""
    return any(tile.args == _GRAY_WITH_ALPHA for tile in image.tile)


def load_in_own_mode(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image. 16-bit gray with alpha, which Pillow converts to RGBA, stays LA."""
    is_gray = is_deep_gray_with_alpha(image)
    image.load()
    if not is_gray:
        return image
    gray = Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
    gray.info = image.info
    return gray


def read_opacity(image: Image.Image, low_bytes: LowBytes) -> Image.Image | None:
    """Return the opacity (mode L, 0 or 255) that follows from the transparent color of a decoded PNG.

    Args:
        image: as decoded by Pillow, in its own mode.
        low_bytes: those of the same file, decoded only if high bytes are equal.

    Returns:
        None if there is no such color, or no pixel has it.
    """
    color = image.info.get(KEY)
    if not isinstance(color, TransparentColor):
        return None
    if image.mode.startswith("I;16"):
        opaque = np.asarray(image) != color.values[0]
        opacity = Image.fromarray(opaque.astype(np.uint8) * 255)
    else:
        opacity = _compare(image, color.bytes)
        if color.bits == 16 and opacity.getextrema()[0] == 0 and low_bytes.image is not None:
            low = tuple(value & 0xFF for value in color.values)
            opacity = ImageChops.lighter(opacity, _compare(low_bytes.image, low))
    return opacity if opacity.getextrema() != (255, 255) else None


def _compare(image: Image.Image, values: tuple[int, ...]) -> Image.Image:
    """Return a mask: 0 where all channels have these values, else 255."""
    bands = (image.convert("L") if image.mode == "1" else image).split()
    opacity: Image.Image | None = None
    for band, value in zip(bands, values, strict=True):
        differs = band.point([0 if level == value else 255 for level in range(256)])
        opacity = differs if opacity is None else ImageChops.lighter(opacity, differs)
    if opacity is None:
        raise ValueError("An image without channels has no opacity.")
    return opacity
