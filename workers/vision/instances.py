"""Things found in a picture, in its own pixels, and what is told of them as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.plugin import JSON, OperationError, PictureView
from workers.vision.masks import Mask
from workers.vision.outlines import outline

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


def describe(instances: Iterable[Instance], picture: PictureView, scale: float) -> JSON:
    """Return Detections, in pixels of the original: those of the picture handed over, divided by `scale`."""
    told: list[JSON] = [_tell(instance, picture, scale) for instance in instances]
    return {"image": original_size(picture, scale), "predictions": told}


def original_size(picture: PictureView, scale: float) -> dict[str, JSON]:
    """The size of the picture before it was reduced for a preview."""
    return {"width": round(picture.width / scale), "height": round(picture.height / scale)}


def _tell(instance: Instance, picture: PictureView, scale: float) -> dict[str, JSON]:
    left, top, right, bottom = instance.box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    turn = instance.turn
    if turn is not None:
        x, y, width, height = turn.x, turn.y, turn.width, turn.height
    told: dict[str, JSON] = {
        "x": _place(x, scale),
        "y": _place(y, scale),
        "width": _place(width, scale),
        "height": _place(height, scale),
        "confidence": round(instance.confidence, 5),
        "class": instance.name,
        "class_id": instance.class_id,
    }
    if turn is not None:
        told["angle"] = round(turn.angle, 5)
        told["points"] = _points(turn.corners(), scale)
    if instance.mask is not None:
        told["points"] = _points(outline(instance.mask, _tolerance(picture)).tolist(), scale)
        told["rle"] = instance.mask.rle(picture.width, picture.height)
    if instance.keypoints is not None:
        told["keypoints"] = [_keypoint(index, point, scale) for index, point in enumerate(instance.keypoints)]
    return told


def _tolerance(picture: PictureView) -> float:
    """How far an outline may lie from its mask: a pixel, in large pictures a thousandth of their side."""
    return max(1.0, max(picture.width, picture.height) / 1000)


def _keypoint(index: int, point: Floats, scale: float) -> dict[str, JSON]:
    told: dict[str, JSON] = {"x": _place(point[0], scale), "y": _place(point[1], scale), "class_id": index}
    if len(point) > 2:
        told["confidence"] = round(float(point[2]), 5)
    return told


def _points(points: Sequence[Sequence[float]], scale: float) -> list[JSON]:
    return [{"x": _place(point[0], scale), "y": _place(point[1], scale)} for point in points]


def _place(value: float, scale: float) -> float:
    return round(float(value) / scale, 2)


# --- Classes, by the names that people write.


def choose_classes(written: str, names: Sequence[str]) -> frozenset[int] | None:
    """Return the classes that a list of names, with commas, asks for; None for all.

    Upper and lower case are the same. A class's number will do as well. Raises OperationError.
    """
    wanted = [part.strip() for part in written.split(",") if part.strip()]
    if not wanted:
        return None
    folded = [name.casefold() for name in names]
    return frozenset(index for part in wanted for index in _find_classes(part, folded, names))


def _find_classes(part: str, folded: list[str], names: Sequence[str]) -> list[int]:
    found = [index for index, name in enumerate(folded) if name == part.casefold()]
    if found:
        return found
    if part.isdecimal() and int(part) < len(names):
        return [int(part)]
    shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    raise OperationError(f"The model knows no class “{part[:60]}”. It knows: {shown}.", code="unknown_class")


def name_of(names: Sequence[str], class_id: int) -> str:
    """A class's name, or its number where the model gives it none."""
    return names[class_id] if class_id < len(names) else str(class_id)
