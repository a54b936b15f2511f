"""PNG of 16-bit colors, converted to sRGB with all of their bits. Pillow keeps the high bytes alone."""

from __future__ import annotations

import io

from PIL import Image, ImageFile

from workers.color_conversion import convert_deep_colors
from workers.color_spaces import ColorSpace

_SIGNATURE = b"\x89PNG"
_COLOR_TYPES = {b"\x02": "RGB", b"\x06": "RGBA"}


def convert_deep_png(image: Image.Image, data: bytes, space: ColorSpace) -> Image.Image | None:
    """Return a decoded PNG of 16-bit colors in sRGB, or None for any other image.

    The low bytes count where dark tones lie close together, as in linear light.

    Args:
        data: the file, which is decoded once more.
    """
    mode = _COLOR_TYPES.get(data[25:26])
    is_deep = data.startswith(_SIGNATURE) and data[24:25] == b"\x10" and image.mode == mode
    if space is None or not is_deep or "transparency" in image.info:
        return None
    low = _decode_low_bytes(data, f"{mode};16L")
    converted = convert_deep_colors(image.convert("RGB"), low.convert("RGB"), space)
    if converted is not None and mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _decode_low_bytes(data: bytes, raw_mode: str) -> Image.Image:
    """Decode 16-bit samples as if their bytes stood the other way round."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if isinstance(image, ImageFile.ImageFile):
            image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        image.load()
        return image
