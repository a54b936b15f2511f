"""How the outputs of an uploaded graph are read: told by their shapes, and by what its owner says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.vision.detections import LAYOUTS, find_layout, has_boxes
from workers.weights.onnx_config import Wishes, read_wishes
from workers.weights.onnx_graphs import Output, Size
from workers.weights.upload import Refused, Upload

SEMANTIC = "semantic"
NO_BOXES = (
    "Its rows are no boxes in pixels. Detectors are taken whose rows are those of YOLOv5, of YOLOv8 and "
    "later, or end-to-end: left, top, right, bottom in pixels, score and class."
)


@dataclass(frozen=True)
class Plan:
    """How its outputs are read."""

    task: str
    layout: str
    classes: int
    scale: int | None = None


def fits(plan: Plan, rows: Output) -> bool:
    """Whether what the graph gave for noise can be what its shape says."""
    return plan.layout != "end-to-end" or has_boxes(rows, rotated=plan.task == "obb")


def wish_otherwise(rows: Output, wishes: Wishes) -> Wishes:
    """Return what to go by for rows that have the end-to-end layout's shape alone. Raises Refused.

    YOLOv5's of one class have six columns, too, the last of which is a share.
    """
    places, last = np.abs(rows[0, :, :4]).max(), rows[0, :, 5]
    is_yolov5 = rows.shape[2] == 6 and places > 1 and last.min() >= 0 and 0 < last.max() <= 1
    # A class's number is whole.
    if wishes.layout or wishes.task not in (None, "detect") or not is_yolov5 or (last == last.round()).all():
        raise Refused(NO_BOXES, code="outputs")
    return wishes.model_copy(update={"layout": "yolov5"})


def plan_outputs(shapes: Sequence[tuple[int, ...]], size: tuple[int, int], wishes: Wishes) -> Plan:
    """Return how outputs of these shapes are read, for an input of `size` (width, height). Raises Refused."""
    first = shapes[0] if shapes else ()
    if _are_apart(shapes):
        text = "It gives boxes, scores and labels apart. Detectors are taken that give all in one output."
        raise Refused(text, code="outputs")
    if first[:1] != (1,):
        raise Refused(f"Its output has the shape {list(first)}, not that of one picture’s.", code="outputs")
    if len(first) == 2 or (len(first) == 4 and first[2:] == (1, 1)):
        return _check(Plan("classify", "", first[1]), wishes)
    if len(first) == 3:
        return _check(_plan_rows(first, shapes[1:], wishes), wishes)
    if len(first) == 4:
        return _check(_plan_pixels(first, size, wishes), wishes)
    raise Refused(f"No known kind of model has an output of the shape {list(first)}.", code="outputs")


def plan_untold(shapes: Sequence[tuple[int, ...]], size: Size, upload: Upload) -> Plan | None:
    """Return how they would be read had nobody said what they are for; None where that cannot be told."""
    said = {name: value for name, value in (upload.config or {}).items() if name not in ("task", "layout")}
    try:
        return plan_outputs(shapes, size, read_wishes(said, upload.metadata))
    except Refused:
        return None


def _are_apart(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether boxes (n, 4) come beside scores and labels (n), or (1, n, 4) beside (1, n) or (1, n, k)."""
    for boxes in shapes:
        if len(boxes) not in (2, 3) or boxes[-1] != 4:
            continue
        rows = boxes[:-1]
        if len(rows) == 1 and shapes.count(rows) >= 2:
            return True
        others = [shape for shape in shapes if shape is not boxes]
        if len(rows) == 2 and any(shape == rows or shape[:-1] == rows for shape in others):
            return True
    return False


def _plan_rows(first: tuple[int, ...], others: Sequence[tuple[int, ...]], wishes: Wishes) -> Plan:
    """A detector's: (1, rows, columns)."""
    task, more = wishes.task or "detect", 0
    masks = [shape for shape in others if len(shape) == 4]
    if masks and task in ("detect", "segment"):
        task, more = "segment", masks[0][1]
    elif task == "pose":
        more = math.prod(wishes.keypoints or (0, 0))
    elif task == "obb":
        more = 1
    count = len(wishes.names) if wishes.names else None
    layout = wishes.layout or _guess_layout(first, count, more)
    found = {"anchors": first[1] - 4 - more, "yolov5": first[2] - 5 - more, "end-to-end": count or 0}[layout]
    if layout != "end-to-end" and (found < 1 or (count is not None and found != count)):
        text = f"Its output {list(first)} does not fit {count if count is not None else 'any'} classes."
        raise Refused(text, code="outputs")
    if layout == "end-to-end" and first[2] != 6 + more:
        raise Refused(f"Its output {list(first)} has not {6 + more} columns.", code="outputs")
    return Plan(task, layout, found)


def _guess_layout(shape: tuple[int, ...], count: int | None, more: int) -> str:
    if count is not None:
        known = find_layout(shape, count, more)
        if known is None:
            text = f"Its output {list(shape)} does not fit {count} classes in any layout that is known."
            raise Refused(text, code="outputs")
        return known
    if shape[2] == 6 + more:
        return "end-to-end"
    # There are far more places than classes.
    return "anchors" if shape[1] < shape[2] else "yolov5"


def _plan_pixels(first: tuple[int, ...], size: tuple[int, int], wishes: Wishes) -> Plan:
    """A picture's, or a class for each pixel: (1, channels, height, width)."""
    across, down = first[3] / size[0], first[2] / size[1]
    named = len(wishes.names) == first[1] if wishes.names else False
    is_picture = first[1] == 3 and across == down and across in (1, 2, 3, 4, 8, 16)
    if wishes.task == "image" or (wishes.task is None and is_picture and not named):
        if not is_picture and not (first[1] == 1 and across == down and across in (1, 2, 3, 4, 8, 16)):
            raise Refused(f"Its output {list(first)} is no picture of its input’s shape.", code="outputs")
        return Plan("image", "picture", 0, int(across))
    if first[1] > 255:
        raise Refused(
            f"It tells {first[1]} classes of pixels apart; at most 255 are possible.", code="outputs"
        )
    return Plan("segment", SEMANTIC, first[1])


def list_choices(
    shapes: Sequence[tuple[int, ...]], size: tuple[int, int], wishes: Wishes, chosen: Plan
) -> list[Plan]:
    """Return the ways in which outputs of these shapes may be read, whatever task and layout were wished for.

    The chosen one comes first. Names and keypoints that are known have to fit.
    """
    found = [chosen]
    for task, layout in itertools.product(_tasks_of(shapes, wishes), LAYOUTS):
        tried = wishes.model_copy(update={"task": task, "layout": layout})
        try:
            plan = plan_outputs(shapes, size, tried)
        except Refused:
            continue
        if plan not in found and _is_likely(plan, shapes[0]):
            found.append(plan)
    return found


def _tasks_of(shapes: Sequence[tuple[int, ...]], wishes: Wishes) -> Sequence[str]:
    """Return what outputs of these shapes may be for. Rows beside prototypes are a segmenter's."""
    if len(shapes[0]) != 3:
        return ("classify", "segment", "image")
    if any(len(shape) == 4 for shape in shapes[1:]):
        return ("segment",)
    return ("detect", "obb", "pose") if wishes.keypoints else ("detect", "obb")


def _is_likely(plan: Plan, first: tuple[int, ...]) -> bool:
    """There are far more places than a detector's columns."""
    if plan.layout == "anchors":
        return first[1] < first[2]
    return plan.layout not in ("yolov5", "end-to-end") or first[1] > first[2]


def is_wished(plan: Plan, wishes: Wishes) -> bool:
    return plan.layout not in LAYOUTS or wishes.layout in (None, plan.layout)


def _check(plan: Plan, wishes: Wishes) -> Plan:
    if wishes.task not in (None, plan.task):
        text = f"It is said to be for the task “{wishes.task}”, but its outputs are those of “{plan.task}”."
        raise Refused(text, code="task")
    if wishes.names and plan.task != "image" and len(wishes.names) != plan.classes:
        text = f"It has {plan.classes} classes, but {len(wishes.names)} names were given."
        raise Refused(text, code="names")
    return plan
