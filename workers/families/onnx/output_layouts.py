"""Output plans: how to read the outputs of an ONNX graph, from their shapes, values and the config."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from workers.checkpoints.upload import Refused
from workers.configs.model_config import Wishes
from workers.families.onnx.graph import Output, Size
from workers.families.onnx.row_values import explain_misfit
from workers.vision import yolox
from workers.vision.detection_outputs import LAYOUTS, find_layout
from workers.vision.semantic_segmentation import MOST_CLASSES

SEMANTIC = "semantic"
# Each pixel has a class number.
LABELS = "labels"
# Layouts of semantic segmentation.
PIXEL_LAYOUTS = (SEMANTIC, LABELS)
# Scale factors of image-to-image models.
_SCALES = (1, 2, 3, 4, 8, 16)


@dataclass(frozen=True)
class OutputPlan:
    """How to read the outputs of a graph: task, layout, number of classes and scale."""

    task: str
    layout: str
    classes: int
    scale: int | None = None


def choose_plans(outputs: Sequence[Output], size: Size, wishes: Wishes) -> list[OutputPlan]:
    """Return the possible plans for outputs for noise of `size`, most likely first.

    Raises:
        Refused: there is none, or none matches the config.
    """
    shapes = [output.shape for output in outputs]
    first = plan_outputs(shapes, size, wishes)
    ways = list_choices(shapes, size, wishes, first)
    misfits = [_explain(outputs, size, way) for way in ways]
    fitting = [way for way, misfit in zip(ways, misfits, strict=True) if not misfit]
    # The config always takes precedence.
    wished = [way for way in fitting if is_wished(way, wishes)]
    if not wished:
        raise Refused(misfits[0], code="outputs")
    # YOLOX is far more common for this number of rows. YOLOv6 has an objectness of 1 for all boxes.
    best = next((way for way in wished if way.layout == "yolox-decoded"), wished[0])
    return [best, *(way for way in fitting if way != best)]


def plan_outputs(shapes: Sequence[tuple[int, ...]], size: tuple[int, int], wishes: Wishes) -> OutputPlan:
    """Return the plan for outputs of these shapes and an input of `size` (width, height). Raises Refused."""
    first = shapes[0] if shapes else ()
    if first[:1] != (1,):
        text = (
            f"Its output has the shape {list(first)}, which has no batch of 1. Export it with a batch of 1."
        )
        raise Refused(text, code="outputs")
    if len(first) == 2 or (len(first) == 4 and first[2:] == (1, 1)):
        return check_plan(OutputPlan("classify", "", first[1]), wishes)
    if len(first) == 3:
        return check_plan(_plan_rows(first, shapes[1:], size, wishes), wishes)
    if len(first) == 4:
        return check_plan(_plan_pixels(first, size, wishes), wishes)
    raise Refused(f"The output shape {list(first)} is not supported.", code="outputs")


def refuse_many_classes(count: int) -> None:
    """Raise Refused if there are more pixel classes than a byte can number."""
    if count > MOST_CLASSES:
        text = f"It has {count} pixel classes. The limit is {MOST_CLASSES}."
        raise Refused(text, code="outputs")


def list_choices(
    shapes: Sequence[tuple[int, ...]], size: tuple[int, int], wishes: Wishes, chosen: OutputPlan
) -> list[OutputPlan]:
    """Return all possible plans for outputs of these shapes, for any task and layout.

    The chosen one comes first. Known names and keypoints must fit.
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


def is_wished(plan: OutputPlan, wishes: Wishes) -> bool:
    """Return whether the plan has the task and the detector layout of the config, if it has any."""
    if wishes.task not in (None, plan.task):
        return False
    return plan.layout not in LAYOUTS or wishes.layout in (None, plan.layout)


def check_plan(plan: OutputPlan, wishes: Wishes) -> OutputPlan:
    """Return the plan. Raises Refused if the config has another task or number of names."""
    if wishes.task not in (None, plan.task):
        text = f"The config.json has the task “{wishes.task}”, but the outputs are those of “{plan.task}”."
        raise Refused(text, code="task")
    if wishes.names and plan.task != "image" and len(wishes.names) != plan.classes:
        text = (
            f"It has {plan.classes} classes, but the config.json or metadata has {len(wishes.names)} names."
        )
        raise Refused(text, code="names")
    return plan


def _explain(outputs: Sequence[Output], size: Size, plan: OutputPlan) -> str:
    """Return why outputs for noise do not fit a plan; empty if they fit."""
    if plan.layout not in LAYOUTS:
        return ""
    return explain_misfit(outputs[0], plan.task, plan.layout, plan.classes, size)


def _plan_rows(
    first: tuple[int, ...], others: Sequence[tuple[int, ...]], size: Size, wishes: Wishes
) -> OutputPlan:
    """Return the plan for a detector: (1, rows, columns)."""
    task, more = wishes.task or "detect", 0
    masks = [shape for shape in others if len(shape) == 4]
    if masks and task in ("detect", "segment"):
        task, more = "segment", masks[0][1]
    elif task == "pose":
        more = math.prod(wishes.keypoints or (0, 0))
    elif task == "obb":
        more = 1
    count = len(wishes.names) if wishes.names else None
    layout = wishes.layout if wishes.layout in LAYOUTS else _guess_layout(first, count, more)
    found = {"anchors": first[1] - 4 - more, "end-to-end": count or 0}.get(layout, first[2] - 5 - more)
    if yolox.is_yolox(layout) and (task != "detect" or yolox.find_strides(first[1], size) is None):
        text = f"Its output {list(first)} does not have one row for each cell of the YOLOX grids."
        raise Refused(text, code="outputs")
    if layout != "end-to-end" and (found < 1 or (count is not None and found != count)):
        text = f"Its output {list(first)} does not fit {count if count is not None else 'any'} classes."
        raise Refused(text, code="outputs")
    if layout == "end-to-end" and first[2] != 6 + more:
        raise Refused(f"Its output {list(first)} does not have {6 + more} columns.", code="outputs")
    return OutputPlan(task, layout, found)


def _guess_layout(shape: tuple[int, ...], count: int | None, more: int) -> str:
    if count is not None:
        known = find_layout(shape, count, more)
        if known is None:
            text = f"Its output {list(shape)} does not fit {count} classes in any supported layout."
            raise Refused(text, code="outputs")
        return known
    if shape[2] == 6 + more:
        return "end-to-end"
    # There are far more rows than classes.
    return "anchors" if shape[1] < shape[2] else "yolov5"


def _plan_pixels(first: tuple[int, ...], size: tuple[int, int], wishes: Wishes) -> OutputPlan:
    """Return the plan for an image or for semantic segmentation: (1, channels, height, width)."""
    across, down = first[3] / size[0], first[2] / size[1]
    named = len(wishes.names) == first[1] if wishes.names else False
    is_scaled = across == down and across in _SCALES
    is_picture = first[1] == 3 and is_scaled
    if wishes.task == "image" or (wishes.task is None and is_picture and not named):
        if not is_scaled or first[1] not in (1, 3):
            raise Refused(
                f"Its output {list(first)} is not an image with the aspect ratio of the input.",
                code="outputs",
            )
        return OutputPlan("image", "picture", 0, int(across))
    refuse_many_classes(first[1])
    return OutputPlan("segment", SEMANTIC, first[1])


def _tasks_of(shapes: Sequence[tuple[int, ...]], wishes: Wishes) -> Sequence[str]:
    """Return the possible tasks for outputs of these shapes. Rows with prototypes are a segmenter."""
    if len(shapes[0]) != 3:
        return ("classify", "segment", "image")
    if any(len(shape) == 4 for shape in shapes[1:]):
        return ("segment",)
    return ("detect", "obb", "pose") if wishes.keypoints else ("detect", "obb")


def _is_likely(plan: OutputPlan, first: tuple[int, ...]) -> bool:
    """Return whether the plan is likely: detectors have far more boxes than columns."""
    if plan.layout == "anchors":
        return first[1] < first[2]
    return plan.layout not in LAYOUTS or first[1] > first[2]
