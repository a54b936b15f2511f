"""What detectors put out, read: candidates above a confidence, and of these the ones that stay."""

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
# How the first output of one picture is laid out: "anchors" (4 + classes + more, n) in YOLOv8 and later,
# "end-to-end" (n, 6 + more) with corners, confidence and class, "yolov5" (n, 5 + classes + more), and
# "yolox", which has the same columns for each cell of a grid, boxes in cells, or in pixels: "yolox-decoded".
Layout = Literal["anchors", "end-to-end", "yolov5", "yolox", "yolox-decoded"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Boxes of different classes never overlap once each class has a place of its own this far from the next.
_CLASS_OFFSET = 7680
_MOST_CLASSES = 65_535
_MOST_CANDIDATES = 30_000
_MOST_ROTATED = 5_000


@dataclass(frozen=True)
class DetectorOutputSpec:
    """How to read a model: its count of classes, further columns (mask, keypoints, angle) and layout.

    `rotated`: boxes are centre, width and height, and the last further column is an angle in radians.
    `size`: width and height of the input that the output is of, which "yolox" lays its grids over.
    """

    classes: int
    more: int = 0
    layout: Layout = "anchors"
    rotated: bool = False
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Detections:
    """`n` things, surest first, in the input's pixels.

    `boxes` (n, 4) are left, top, right, bottom, or, rotated, centre, width and height. `more` (n, k).
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
    """Tell the layout from an output's shape. One class and six columns are taken for end-to-end."""
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
    """Return what is found in the output (1, …) of one picture.

    Args:
        confidence: things less sure than this, or just as sure, are left out.
        iou: of two boxes of a class that overlap by more, the surer one stays.
        most: how many things are returned.
        wanted: the classes of interest, None for all.

    Raises:
        ModelFault: it is not laid out so, or what is read of it is not finite: a score anywhere, or any
            number of a row that is sure enough. Rows that nobody reads may hold anything.
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
    """Whether an output of one picture has the columns of its layout, whatever the count of its rows."""
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
    """Each class's confidence is its own times that of there being anything."""
    cells, scores = _score_rows(rows, reading, confidence)
    return _found(_to_corners(rows[cells, :4]), scores, rows[cells, 5 + reading.classes :])


def _read_yolox(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    """As YOLOv5, with boxes in the cells of a grid."""
    strides = yolox.find_strides(len(rows), reading.size)
    assert strides is not None
    cells, scores = _score_rows(rows, reading, confidence)
    boxes = yolox.decode(rows[cells, :4], cells, reading.size, strides)
    return _found(_to_corners(boxes), scores, rows[cells, 5 + reading.classes :])


def _score_rows(
    rows: Floats, reading: DetectorOutputSpec, confidence: float
) -> tuple[NDArray[np.intp], Floats]:
    """Return which rows are sure enough, and the confidences of their classes."""
    check_scores(rows[:, 4])
    likely = np.flatnonzero(rows[:, 4] > confidence)
    scores = rows[likely, 5 : 5 + reading.classes] * rows[likely, 4:5]
    check_scores(scores)
    sure = scores.max(axis=1) > confidence
    return likely[sure], scores[sure]


def _read_end_to_end(rows: Floats, reading: DetectorOutputSpec, confidence: float) -> Detections:
    check_scores(rows[:, 4])
    rows = rows[rows[:, 4] > confidence]
    check_finite(rows[:, 5])
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    # Heads that do not tell how many classes they have get a number for a name.
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
    """Keep each box's best class."""
    if not len(boxes):
        return Detections(boxes, np.empty(0, np.float32), np.empty(0, np.int64), more)
    classes = scores.argmax(axis=1)
    best = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    return Detections(boxes, best, classes.astype(np.int64), more)


def _to_corners(boxes: Floats) -> Floats:
    """From centre, width and height to left, top, right and bottom."""
    half = boxes[:, 2:] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])
