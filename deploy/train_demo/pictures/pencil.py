"""The drawing that the style generator learns: colored pencil on white paper, worked out exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
# Pixels over which a tone counts as the paper that a line stands out from.
RADIUS = 3.0
# Keeps the noise of the darkest parts from becoming lines.
_LEAST_TONE = 12.0
# How dark lines are, and how much of the colour stays.
_PRESSURE, _COLOUR = 2.2, 0.6


def redraw(image: Image.Image) -> Image.Image:
    """Return the picture as a drawing: lines where it is darker than around, on a wash of its colours.

    The lines are a "colour dodge": the luma over its own blur, as darkrooms and drawing programs make them.
    """
    colour = image.convert("RGB")
    luma = colour.convert("L")
    tone = np.asarray(luma, np.float32) + _LEAST_TONE
    around = np.asarray(luma.filter(ImageFilter.GaussianBlur(RADIUS)), np.float32) + _LEAST_TONE
    lines: Floats = np.minimum(tone / around, 1) ** np.float32(_PRESSURE)
    wash = np.asarray(colour.filter(ImageFilter.GaussianBlur(RADIUS)), np.float32)
    paper = 255 - np.float32(_COLOUR) * (255 - wash)
    return Image.fromarray(np.round(lines[..., None] * paper).astype(np.uint8))
