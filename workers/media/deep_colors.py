"""16-bit colors of PNG and TIFF: read the low bytes, which Pillow drops, and convert with all bits."""

from __future__ import annotations

import io
import sys
from functools import cached_property

from PIL import Image, ImageFile

from workers.color.conversion import convert_deep_colors, find_conversion
from workers.color.spaces import ColorSpace

_NATIVE = "L" if sys.byteorder == "little" else "B"


class LowBytes:
    """The low bytes of an image, decoded on first access.

    Args:
        image: opened but not decoded. After decoding, Pillow drops the storage layout of the samples.
        data: the image file.
    """

    def __init__(self, image: ImageFile.ImageFile, data: bytes) -> None:
        self._data = data
        self._format = image.format or ""
        self._tiles = [_swap_bytes(tile) for tile in image.tile]

    @cached_property
    def image(self) -> Image.Image | None:
        """The low bytes in mode RGB or RGBA; None for samples that are not 16-bit colors."""
        tiles = [tile for tile in self._tiles if tile is not None]
        if not tiles or len(tiles) < len(self._tiles):
            return None
        with Image.open(io.BytesIO(self._data), formats=(self._format,)) as image:
            if isinstance(image, ImageFile.ImageFile):
                image.tile = tiles
            image.load()
            return image


def convert_whole_samples(image: Image.Image, low_bytes: LowBytes, space: ColorSpace) -> Image.Image | None:
    """Return a decoded image of 16-bit colors in sRGB, or None for any other image.

    The low bytes matter if dark tones are close together, as in linear light.
    """
    conversion = find_conversion(space)
    if conversion is None or low_bytes.image is None:
        return None
    converted = convert_deep_colors(image, low_bytes.image, conversion)
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _swap_bytes(tile: ImageFile._Tile) -> ImageFile._Tile | None:
    """Return a tile that decodes 16-bit samples with swapped bytes, or None for other samples."""
    raw_mode = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    name, _separator, kind = str(raw_mode).partition(";16")
    if name not in ("RGB", "RGBA") or kind not in ("L", "B", "N"):
        return None
    order = _NATIVE if kind == "N" else kind
    swapped = f"{name};16{'B' if order == 'L' else 'L'}"
    return tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
