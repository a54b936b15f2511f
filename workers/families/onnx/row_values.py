"""Whether the rows that a graph gave for noise are those of a detector, in one layout or another."""

from __future__ import annotations

import numpy as np

from workers.families.onnx.graph import Floats, Output, Size
from workers.vision import yolox

# No detector's boxes all lie within this part of its input: then they are shares of it, or cells.
_LEAST_REACH = 1 / 20
_ROUNDED = 0.01
NO_BOXES = (
    "Its rows are no boxes in pixels. Detectors are taken whose rows are those of YOLOv5, of YOLOX, of "
    "YOLOv8 and later, or end-to-end: left, top, right, bottom in pixels, score and class. Where boxes are "
    "shares of the picture, multiply them by the input’s width and height in the export."
)
NO_SCORES = (
    "What stands behind the boxes of its rows does not lie between 0 and 1, so it is no confidence of a "
    "class. Of a model that finds poses or turned boxes, say “task” in the config.json, and “keypoints”; of "
    "others, export the confidences behind their sigmoid."
)


def explain_misfit(output: Output, task: str, layout: str, classes: int, size: Size) -> str:
    """Say why what a graph gave for noise, (1, …), cannot be rows of a layout; empty where it can.

    Rows in which there is nothing tell nothing.

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
    # A class's number is whole, a share is not.
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
    """Corners lie the right way round, whatever is shown; scores are shares, and classes whole numbers."""
    # Those that fill a list up to its length have the same number everywhere.
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
    """Whether boxes reach beyond the first pixels of an input. None at all tell nothing."""
    return not boxes.any() or float(np.abs(boxes).max()) > max(1.0, _LEAST_REACH * max(size))


def _is_whole(numbers: Floats) -> bool:
    return bool((numbers == np.rint(numbers)).all())
