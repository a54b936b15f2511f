"""Things found in a picture, in its own pixels, and what is told of them as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.plugin import JSON, Context, PictureView
from workers.vision.contours import outline
from workers.vision.masks import Mask

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Turn:
    """How a box is turned: its centre, its sides and its angle in radians, clockwise, from 0 to π/2."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    @classmethod
    def of(cls, x: float, y: float, width: float, height: float, angle: float) -> Turn:
        """The same box, told in the one way in which its angle is between 0 and π/2."""
        if angle % math.pi >= math.pi / 2:
            width, height = height, width
        return cls(x, y, width, height, angle % (math.pi / 2))

    def corners(self) -> list[tuple[float, float]]:
        """The four corners, clockwise."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across = (self.width / 2 * cos, self.width / 2 * sin)
        down = (-self.height / 2 * sin, self.height / 2 * cos)
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return [
            (self.x + a * across[0] + b * down[0], self.y + a * across[1] + b * down[1]) for a, b in signs
        ]


@dataclass(frozen=True)
class Instance:
    """One thing. `box` is left, top, right, bottom in the pixels of the picture handed over.

    `keypoints` (k, 2 or 3) are x, y and, where the model says so, a confidence.
    """

    box: Box
    confidence: float
    class_id: int
    name: str
    mask: Mask | None = None
    keypoints: Floats | None = None
    turn: Turn | None = None


@dataclass(frozen=True)
class Original:
    """The picture before it was reduced for a preview: places times `across` and `down` lie in it."""

    width: int
    height: int
    across: float
    down: float

    @classmethod
    def of(cls, picture: PictureView, context: Context) -> Original:
        scale = context.scale
        width, height = context.full or (round(picture.width / scale), round(picture.height / scale))
        return cls(width, height, width / picture.width, height / picture.height)

    def size(self) -> dict[str, JSON]:
        return {"width": self.width, "height": self.height}

    def place(self, x: float, y: float) -> dict[str, JSON]:
        return {"x": self.x(x), "y": self.y(y)}

    def x(self, pixels: float) -> float:
        return round(float(pixels) * self.across, 2)

    def y(self, pixels: float) -> float:
        return round(float(pixels) * self.down, 2)


def describe(instances: Iterable[Instance], picture: PictureView, context: Context) -> JSON:
    """Return Detections, in pixels of the original."""
    original = Original.of(picture, context)
    told: list[JSON] = [_tell(instance, picture, original) for instance in instances]
    return {"image": original.size(), "predictions": told}


def _tell(instance: Instance, picture: PictureView, original: Original) -> dict[str, JSON]:
    left, top, right, bottom = instance.box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    turn = instance.turn
    if turn is not None:
        x, y, width, height = turn.x, turn.y, turn.width, turn.height
    told: dict[str, JSON] = {
        **original.place(x, y),
        "width": original.x(width),
        "height": original.y(height),
        "confidence": round(instance.confidence, 5),
        "class": instance.name,
        "class_id": instance.class_id,
    }
    if turn is not None:
        told["angle"] = round(turn.angle, 5)
        told["points"] = _points(turn.corners(), original)
    if instance.mask is not None:
        told["points"] = _points(outline(instance.mask, _tolerance(picture)).tolist(), original)
        told["rle"] = instance.mask.rle(picture.width, picture.height)
    if instance.keypoints is not None:
        told["keypoints"] = [
            _keypoint(index, point, original) for index, point in enumerate(instance.keypoints)
        ]
    return told


def _tolerance(picture: PictureView) -> float:
    """How far an outline may lie from its mask: a pixel, in large pictures a thousandth of their side."""
    return max(1.0, max(picture.width, picture.height) / 1000)


def _keypoint(index: int, point: Floats, original: Original) -> dict[str, JSON]:
    told: dict[str, JSON] = {**original.place(point[0], point[1]), "class_id": index}
    if len(point) > 2:
        told["confidence"] = round(float(point[2]), 5)
    return told


def _points(points: Sequence[Sequence[float]], original: Original) -> list[JSON]:
    return [original.place(point[0], point[1]) for point in points]
