"""Computed colored pencil drawings: the targets that the style transfer model learns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
# Blur radius in pixels of the local background.
RADIUS = 3.0
# Offset that keeps noise in dark areas from becoming lines.
_LEAST_TONE = 12.0
# Darkness of lines, and strength of colors.
_PRESSURE, _COLOR = 2.2, 0.6


def redraw(image: Image.Image) -> Image.Image:
    """Return the image as a drawing: lines where it is darker than its surroundings, on a wash of its colors.

    The lines are a "color dodge": the luma divided by its blur.
    """
    color = image.convert("RGB")
    luma = color.convert("L")
    tone = np.asarray(luma, np.float32) + _LEAST_TONE
    around = np.asarray(luma.filter(ImageFilter.GaussianBlur(RADIUS)), np.float32) + _LEAST_TONE
    lines: Floats = np.minimum(tone / around, 1) ** np.float32(_PRESSURE)
    wash = np.asarray(color.filter(ImageFilter.GaussianBlur(RADIUS)), np.float32)
    paper = 255 - np.float32(_COLOR) * (255 - wash)
    return Image.fromarray(np.round(lines[..., None] * paper).astype(np.uint8))
