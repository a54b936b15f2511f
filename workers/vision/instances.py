"""Detections in pixels of the image, and their JSON."""

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
    """An oriented box: center, sides, and angle in radians, clockwise, from 0 to π/2."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    @classmethod
    def of(cls, x: float, y: float, width: float, height: float, angle: float) -> Turn:
        """Return the box with its angle normalized to 0..π/2."""
        if angle % math.pi >= math.pi / 2:
            width, height = height, width
        return cls(x, y, width, height, angle % (math.pi / 2))

    def corners(self) -> list[tuple[float, float]]:
        """Return the four corners, clockwise."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across = (self.width / 2 * cos, self.width / 2 * sin)
        down = (-self.height / 2 * sin, self.height / 2 * cos)
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return [
            (self.x + a * across[0] + b * down[0], self.y + a * across[1] + b * down[1]) for a, b in signs
        ]


@dataclass(frozen=True)
class Instance:
    """One detection. `box` is left, top, right, bottom in pixels of the input image.

    `keypoints` (k, 2 or 3) are x, y and, if the model returns it, a confidence.
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
    """The original of an image that was reduced for a preview, with the scale factors to its pixels."""

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
    """Return the detections as JSON, in pixels of the original."""
    original = Original.of(picture, context)
    predictions: list[JSON] = [_describe_one(instance, picture, original) for instance in instances]
    return {"image": original.size(), "predictions": predictions}


def _describe_one(instance: Instance, picture: PictureView, original: Original) -> dict[str, JSON]:
    left, top, right, bottom = instance.box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    turn = instance.turn
    if turn is not None:
        x, y, width, height = turn.x, turn.y, turn.width, turn.height
    prediction: dict[str, JSON] = {
        **original.place(x, y),
        "width": original.x(width),
        "height": original.y(height),
        "confidence": round(instance.confidence, 5),
        "class": instance.name,
        "class_id": instance.class_id,
    }
    if turn is not None:
        prediction["angle"] = round(turn.angle, 5)
        prediction["points"] = _points(turn.corners(), original)
    if instance.mask is not None:
        prediction["points"] = _points(outline(instance.mask, _tolerance(picture)).tolist(), original)
        prediction["rle"] = instance.mask.rle(picture.width, picture.height)
    if instance.keypoints is not None:
        prediction["keypoints"] = [
            _keypoint(index, point, original) for index, point in enumerate(instance.keypoints)
        ]
    return prediction


def _tolerance(picture: PictureView) -> float:
    """Return the tolerance of outlines in pixels: 1, or 0.1 % of the longer side of large images."""
    return max(1.0, max(picture.width, picture.height) / 1000)


def _keypoint(index: int, point: Floats, original: Original) -> dict[str, JSON]:
    keypoint: dict[str, JSON] = {**original.place(point[0], point[1]), "class_id": index}
    if len(point) > 2:
        keypoint["confidence"] = round(float(point[2]), 5)
    return keypoint


def _points(points: Sequence[Sequence[float]], original: Original) -> list[JSON]:
    return [original.place(point[0], point[1]) for point in points]
