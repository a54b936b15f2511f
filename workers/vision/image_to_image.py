"""Running a graph that makes a picture of a picture, and of which nothing more is known."""

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

# How the pixels are written that go in and come out: the number that black is, and that white is.
RANGES = {"unit": (0.0, 1.0), "signed": (-1.0, 1.0), "byte": (0.0, 255.0)}


def redraw(picture: PictureView, session: Session, facts: Mapping[str, Any], side: int) -> Image.Image:
    """Return what the model makes of a picture, `scale` times its size.

    It sees all of the picture at once, at its own size or, where any will do, with no side above `side`:
    nobody knows how far its pixels look around, so there are no tiles. Raises OperationError, of which
    ModelFault is one.
    """
    scale = int(facts.get("scale") or 1)
    size = (picture.width * scale, picture.height * scale)
    if max(size) > LIMITS.max_side or size[0] * size[1] > LIMITS.max_pixels:
        text = (
            f"The result would have {size[0]} × {size[1]} pixels, which is too large: use a smaller picture."
        )
        raise OperationError(text, code="too_large")
    inner, shown = _fit(picture, side, session.shape)
    pixels = fill(picture, inner, session.shape[1] or 3, Image.Resampling.BICUBIC)
    pixels = np.pad(pixels, [(0, 0), (0, 0), (0, shown[1] - inner[1]), (0, shown[0] - inner[0])], "edge")
    architecture = facts.get("architecture") or {}
    black, white = RANGES[architecture.get("takes", "unit")]
    made = session.run((pixels * (white - black) + black).astype(np.float32))[0]
    if made.ndim != 4 or made.shape[:2] not in ((1, 1), (1, 3)) or 0 in made.shape:
        raise ModelFault(UNEXPECTED_OUTPUT)
    height, width = (round(made.shape[2 + axis] * inner[1 - axis] / shown[1 - axis]) for axis in (0, 1))
    image = to_image(made[0, :, : max(1, height), : max(1, width)], architecture.get("gives", "unit"))
    return image.resize(size, Image.Resampling.BICUBIC)


def to_image(made: Floats, written: str) -> Image.Image:
    """Return a picture from numbers (1 or 3, height, width). Raises ModelFault where they are not finite."""
    black, white = RANGES[written]
    check_finite(made)
    levels = np.clip((made - black) * (255 / (white - black)), 0, 255)
    pixels = np.rint(levels).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")


def _fit(picture: PictureView, side: int, shape: Sequence[int | None]) -> tuple[Size, Size]:
    """Return the sizes of what is shown of a picture, and of the input around it.

    Where any will do, the picture keeps its pixels, and its last ones are repeated on the right and below up
    to sides that networks divide by.
    """
    if shape[2] is not None and shape[3] is not None:
        return (shape[3], shape[2]), (shape[3], shape[2])
    scale = min(1, side / max(picture.width, picture.height))
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return inner, (round_up(inner[0], MULTIPLE), round_up(inner[1], MULTIPLE))
