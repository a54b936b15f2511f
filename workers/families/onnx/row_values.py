"""Check whether the output rows of a graph for noise are detections of a layout."""

from __future__ import annotations

import numpy as np

from workers.families.onnx.graph import Floats, Output, Size
from workers.vision import yolox

# If all boxes are within this fraction of the input, they are relative or in grid cells.
_LEAST_REACH = 1 / 20
_ROUNDED = 0.01
NO_BOXES = (
    "Its output rows are not boxes in pixels. Supported are outputs of YOLOv5, YOLOX, YOLOv8 and later, and "
    "end-to-end rows: left, top, right, bottom in pixels, score and class. If boxes are fractions of the "
    "image, multiply them by the width and height of the input in the export."
)
NO_SCORES = (
    "The values after the boxes in its output rows are not between 0 and 1, so they are not confidences. For "
    "pose or oriented box models, set “task” and “keypoints” in the config.json. For others, export the "
    "confidences after the sigmoid."
)


def explain_misfit(output: Output, task: str, layout: str, classes: int, size: Size) -> str:
    """Return why an output for noise, (1, …), cannot be rows of a layout; empty if it can.

    Empty rows are ignored.

    Args:
        size: of the input, (width, height).
    """
    rows = output[0].T if layout == "anchors" else output[0]
    rows = rows.astype(np.float32)
    if layout == "end-to-end":
        return _explain_end_to_end(rows, size, is_rotated=task == "obb")
    columns = rows[:, 4 : (4 if layout == "anchors" else 5) + classes]
    if columns.size and (columns.min() < -_ROUNDED or columns.max() > 1 + _ROUNDED):
        return NO_SCORES
    # Class numbers are integers, confidences are not.
    if layout == "yolov5" and columns.shape[1] == rows.shape[1] - 4 == 2 and _is_whole(rows[:, 5]):
        return NO_BOXES
    boxes, strides = rows[:, :4], yolox.find_strides(len(rows), size)
    if layout == "yolox":
        return "" if strides and yolox.has_offsets(boxes, size, strides) else NO_BOXES
    if layout != "anchors" and strides and yolox.has_offsets(boxes, size, strides):
        return NO_BOXES
    if layout == "yolox-decoded" and (not strides or bool((rows[:, 4] == 1).all())):
        return NO_BOXES
    return "" if _reaches(boxes, size) else NO_BOXES


def _explain_end_to_end(rows: Floats, size: Size, *, is_rotated: bool) -> str:
    """Check that corners are ordered, scores are between 0 and 1, and classes are integers."""
    # Padding rows have the same number everywhere.
    rows = rows[np.ptp(rows[:, :4], axis=1) > 0]
    if not len(rows):
        return ""
    backwards = (rows[:, 2:4] < rows[:, :2]).any(axis=1)
    if not _reaches(rows[:, :4], size) or (not is_rotated and backwards.mean() > 0.5):
        return NO_BOXES
    scores = rows[:, 4]
    are_shares = scores.min() >= -_ROUNDED and scores.max() <= 1 + _ROUNDED
    return "" if are_shares and _is_whole(rows[:, 5]) else NO_BOXES


def _reaches(boxes: Floats, size: Size) -> bool:
    """Return whether boxes are in pixels: they extend beyond the first pixels. All-zero boxes pass."""
    return not boxes.any() or float(np.abs(boxes).max()) > max(1.0, _LEAST_REACH * max(size))


def _is_whole(numbers: Floats) -> bool:
    return bool((numbers == np.rint(numbers)).all())
