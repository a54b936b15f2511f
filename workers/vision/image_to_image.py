"""Run an image-to-image ONNX graph of unknown architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.inference.errors import UNEXPECTED_OUTPUT, ModelFault, check_finite
from workers.inference.sessions import Session
from workers.media.picture import LIMITS
from workers.plugin import OperationError, PictureView
from workers.vision.letterbox import Size, round_up
from workers.vision.semantic_segmentation import MULTIPLE, fill

Floats = NDArray[np.float32]

# Pixel ranges: the values of black and white.
RANGES = {"unit": (0.0, 1.0), "signed": (-1.0, 1.0), "byte": (0.0, 255.0)}


def redraw(picture: PictureView, session: Session, facts: Mapping[str, Any], side: int) -> Image.Image:
    """Return the result of the model, `scale` times the size of the image.

    The model gets the whole image: at its fixed input size, else with no side above `side`. Its receptive
    field is unknown, so there are no tiles. Raises OperationError, such as ModelFault.
    """
    scale = int(facts.get("scale") or 1)
    size = (picture.width * scale, picture.height * scale)
    if max(size) > LIMITS.max_side or size[0] * size[1] > LIMITS.max_pixels:
        text = f"The result would have {size[0]} × {size[1]} pixels, which is too large. Use a smaller image."
        raise OperationError(text, code="too_large")
    inner, outer = _fit(picture, side, session.shape)
    pixels = fill(picture, inner, session.shape[1] or 3, Image.Resampling.BICUBIC)
    pixels = np.pad(pixels, [(0, 0), (0, 0), (0, outer[1] - inner[1]), (0, outer[0] - inner[0])], "edge")
    architecture = facts.get("architecture") or {}
    black, white = RANGES[architecture.get("takes", "unit")]
    output = session.run((pixels * (white - black) + black).astype(np.float32))[0]
    if output.ndim != 4 or output.shape[:2] not in ((1, 1), (1, 3)) or 0 in output.shape:
        raise ModelFault(UNEXPECTED_OUTPUT)
    height, width = (round(output.shape[2 + axis] * inner[1 - axis] / outer[1 - axis]) for axis in (0, 1))
    image = to_image(output[0, :, : max(1, height), : max(1, width)], architecture.get("gives", "unit"))
    return image.resize(size, Image.Resampling.BICUBIC)


def to_image(values: Floats, pixel_range: str) -> Image.Image:
    """Return an image from values (1 or 3, height, width). Raises ModelFault if they are not finite."""
    black, white = RANGES[pixel_range]
    check_finite(values)
    levels = np.clip((values - black) * (255 / (white - black)), 0, 255)
    pixels = np.rint(levels).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")


def _fit(picture: PictureView, side: int, shape: Sequence[int | None]) -> tuple[Size, Size]:
    """Return the size of the image in the input, and the size of the input.

    For dynamic axes, the image is only reduced to `side`, and padded to a multiple of `MULTIPLE` by repeating
    its right and bottom edges.
    """
    if shape[2] is not None and shape[3] is not None:
        return (shape[3], shape[2]), (shape[3], shape[2])
    scale = min(1, side / max(picture.width, picture.height))
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return inner, (round_up(inner[0], MULTIPLE), round_up(inner[1], MULTIPLE))
