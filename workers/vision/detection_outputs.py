"""Decode detector outputs: confidence filter and NMS."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workers.inference.errors import UNEXPECTED_OUTPUT, ModelFault, check_finite, check_scores
from workers.vision import yolox
from workers.vision.nms import suppress, suppress_rotated

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
# Layouts of the first output for one image: "anchors" (4 + classes + more, n) in YOLOv8 and later,
# "end-to-end" (n, 6 + more) with corners, confidence and class, "yolov5" (n, 5 + classes + more), and
# "yolox": the same columns for each grid cell, boxes in cells; "yolox-decoded": boxes in pixels.
Layout = Literal["anchors", "end-to-end", "yolov5", "yolox", "yolox-decoded"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Offset between classes, so that boxes of different classes never overlap in NMS.
_CLASS_OFFSET = 7680
_MOST_CLASSES = 65_535
_MOST_CANDIDATES = 30_000
_MOST_ROTATED = 5_000


@dataclass(frozen=True)
class DetectorOutputSpec:
    """How to decode an output: number of classes, extra columns (mask, keypoints, angle) and layout.

    `rotated`: boxes are center, width and height, and the last extra column is an angle in radians.
    `size`: width and height of the input, for the grids of "yolox".
    """

    classes: int
    more: int = 0
    layout: Layout = "anchors"
    rotated: bool = False
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Detections:
    """`n` detections, most confident first, in pixels of the input.

    `boxes` (n, 4) are left, top, right, bottom; if rotated, center, width and height. `more` (n, k).
    """

    boxes: Floats
    scores: Floats
    classes: Integers
    more: Floats

    def take(self, chosen: NDArray[np.intp]) -> Detections:
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen], self.more[chosen])

    def __len__(self) -> int:
        return len(self.scores)


def find_layout(shape: tuple[int, ...], classes: int, more: int) -> Layout | None:
    """Return the layout of an output from its shape. One class with six columns counts as end-to-end."""
    if len(shape) != 3:
        return None
    rows, columns = shape[1:]
    if columns == 6 + more:
        return "end-to-end"
    if rows == 4 + classes + more:
        return "anchors"
    return "yolov5" if columns == 5 + classes + more else None


def read(
    output: Floats,
    reading: DetectorOutputSpec,
    *,
    confidence: float,
    iou: float,
    most: int,
    wanted: Collection[int] | None = None,
) -> Detections:
    """Return the detections in the output (1, …) for one image.

    Args:
        confidence: only detections above this confidence are returned.
        iou: NMS threshold: of two boxes of a class with a higher IoU, the more confident one stays.
        most: maximum number of detections.
        wanted: class ids to return, None for all.

    Raises:
        ModelFault: the output does not have this layout, or a score or any value of a row above the
            confidence is not finite. Other rows may have any values.
    """
    if not _fits(output.shape, reading):
        raise ModelFault(UNEXPECTED_OUTPUT)
    found = _READERS[reading.layout](output[0], reading, confidence)
    for part in (found.boxes, found.more, found.scores):
        check_finite(part)
    if wanted is not None:
        found = found.take(np.flatnonzero(np.isin(found.classes, list(wanted))))
    if reading.layout == "end-to-end":
        kept = found.take(np.arange(len(found))[:most])
    else:
        kept = _suppress(found, reading, iou, most)
    return replace(kept, scores=np.minimum(kept.scores, 1))


def _fits(shape: tuple[int, ...], reading: DetectorOutputSpec) -> bool:
    """Return whether an output has the columns of its layout, with any number of rows."""
    columns = {"anchors": 4 + reading.classes, "end-to-end": 6}.get(reading.layout, 5 + reading.classes)
    axis = 1 if reading.layout == "anchors" else 2
    if len(shape) != 3 or shape[0] != 1 or shape[axis] != columns + reading.more:
        return False
    return reading.layout != "yolox" or yolox.find_strides(shape[1], reading.size) is not None


def _suppress(found: Detections, reading: DetectorOutputSpec, iou: float, most: int) -> Detections:
    limit = _MOST_ROTATED if reading.rotated else _MOST_CANDIDATES
    if len(found) > limit:
        found = found.take(np.argsort(-found.scores, kind="stable")[:limit])
    offset = (found.classes * _CLASS_OFFSET).astype(np.float32)[:, None]
    if reading.rotated:
        boxes = np.hstack([found.boxes[:, :2] + offset, found.boxes[:, 2:], found.more[:, -1:]])
        return found.take(suppress_rotated(boxes, found.scores, iou, most))
    return found.take(suppress(found.boxes + offset, found.scores, iou, most))


def _read_anchors(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    best = rows[4 : 4 + reading.classes].max(axis=0)
    check_scores(best)
    columns = np.ascontiguousarray(rows[:, np.flatnonzero(best > confidence)].T)
    scores = columns[:, 4 : 4 + reading.classes]
    boxes = columns[:, :4] if reading.rotated else _to_corners(columns[:, :4])
    return _found(boxes, scores, columns[:, 4 + reading.classes :])


def _read_yolov5(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    """Read YOLOv5 rows. Confidence is class score times objectness."""
    cells, scores = _score_rows(rows, reading, confidence)
    return _found(_to_corners(rows[cells, :4]), scores, rows[cells, 5 + reading.classes :])


def _read_yolox(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    """Read YOLOX rows: like YOLOv5, with boxes in grid cells."""
    strides = yolox.find_strides(len(rows), reading.size)
    assert strides is not None
    cells, scores = _score_rows(rows, reading, confidence)
    boxes = yolox.decode(rows[cells, :4], cells, reading.size, strides)
    return _found(_to_corners(boxes), scores, rows[cells, 5 + reading.classes :])


def _score_rows(
    rows: Floats, reading: DetectorOutputSpec, confidence: float
) -> tuple[NDArray[np.intp], Floats]:
    """Return the rows above the confidence, and the confidences of their classes."""
    check_scores(rows[:, 4])
    likely = np.flatnonzero(rows[:, 4] > confidence)
    scores = rows[likely, 5 : 5 + reading.classes] * rows[likely, 4:5]
    check_scores(scores)
    is_above = scores.max(axis=1) > confidence
    return likely[is_above], scores[is_above]


def _read_end_to_end(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    check_scores(rows[:, 4])
    rows = rows[rows[:, 4] > confidence]
    check_finite(rows[:, 5])
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    # Heads with an unknown number of classes get class numbers as names.
    last = reading.classes - 1 if reading.classes else _MOST_CLASSES
    classes = np.clip(rows[:, 5], 0, last).astype(np.int64)
    return Detections(rows[:, :4], rows[:, 4], classes, rows[:, 6:])


_READERS = {
    "anchors": _read_anchors,
    "yolov5": _read_yolov5,
    "yolox": _read_yolox,
    "yolox-decoded": _read_yolov5,
    "end-to-end": _read_end_to_end,
}


def _found(boxes: Floats, scores: Floats, more: Floats) -> Detections:
    """Return detections with the best class of each box."""
    if not len(boxes):
        return Detections(boxes, np.empty(0, np.float32), np.empty(0, np.int64), more)
    classes = scores.argmax(axis=1)
    best = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    return Detections(boxes, best, classes.astype(np.int64), more)


def _to_corners(boxes: Floats) -> Floats:
    """Convert center, width and height to left, top, right and bottom."""
    half = boxes[:, 2:] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])
