"""PNG and TIFF of 16-bit colors, converted to sRGB with all of their bits. Pillow keeps the high bytes."""

from __future__ import annotations

import io
import sys

from PIL import Image, ImageFile

from workers.color.conversion import convert_deep_colors
from workers.color.spaces import ColorSpace
from workers.media.decode import open_image

_FORMATS = frozenset({"PNG", "TIFF"})
_NATIVE = "L" if sys.byteorder == "little" else "B"


def convert_whole_samples(image: Image.Image, data: bytes, space: ColorSpace) -> Image.Image | None:
    """Return a decoded image of 16-bit colors in sRGB, or None for any other image.

    The low bytes count where dark tones lie close together, as in linear light.

    Args:
        image: as decoded by Pillow, of mode RGB or RGBA.
        data: the file, which is decoded once more.
    """
    if space is None or image.format not in _FORMATS or image.mode not in ("RGB", "RGBA"):
        return None
    if "transparency" in image.info:
        return None
    with open_image(io.BytesIO(data)) as low:
        tiles = [_swap_bytes(tile) for tile in low.tile]
        if low.mode != image.mode or low.size != image.size or not tiles or None in tiles:
            return None
        low.tile = [tile for tile in tiles if tile is not None]
        low.load()
        converted = convert_deep_colors(image, low, space)
    if converted is not None and image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _swap_bytes(tile: ImageFile._Tile) -> ImageFile._Tile | None:
    """Return how to decode 16-bit samples as if their bytes stood the other way round."""
    raw_mode = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    name, _separator, kind = str(raw_mode).partition(";16")
    if name not in ("RGB", "RGBA") or kind not in ("L", "B", "N"):
        return None
    order = _NATIVE if kind == "N" else kind
    swapped = f"{name};16{'B' if order == 'L' else 'L'}"
    return tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
