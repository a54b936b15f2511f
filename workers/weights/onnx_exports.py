"""Uploaded ONNX graphs: what they take and give, told from the graph and from one run of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.vision.detections import LAYOUTS, find_layout, has_boxes
from workers.vision.letterbox import round_up
from workers.weights.bundle import GRAPHS, Bundle, Choice
from workers.weights.onnx_config import Wishes, read_wishes
from workers.weights.onnx_flops import count_flops
from workers.weights.onnx_graphs import (
    Graph,
    Output,
    Size,
    draw_noise,
    list_sizes,
    list_tensors,
    read_graph,
    settle,
    try_graph,
    try_sizes,
)
from workers.weights.upload import MOST_PARAMETERS, Refused, Upload

SEMANTIC = "semantic"
# The side of the pictures that a graph for any size is shown, by what it does.
_SIDES = {"classify": 224, "image": 1024}
_SIDE = 640
# What classifiers and segmenters are mostly trained on: ImageNet's means and deviations.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# What ends in these gives shares; those behind them change nothing of what is given.
_GIVING_SHARES = ("Softmax", "Sigmoid", "HardSigmoid")
_FORMING = frozenset({
    "Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
# As the metadata of Ultralytics' exports names a head whose boxes are shares of the picture.
_SHARING_HEAD = "RTDETRDecoder"
_NO_BOXES = (
    "Its rows are no boxes in pixels. Detectors are taken whose rows are those of YOLOv5, of YOLOv8 and "
    "later, or end-to-end: left, top, right, bottom in pixels, score and class."
)
_MOST_FORMS = 20
_TITLES = {
    "detect": "ONNX detector",
    "segment": "ONNX segmenter",
    "pose": "ONNX pose estimator",
    "obb": "ONNX detector of turned boxes",
    "classify": "ONNX classifier",
    "image": "ONNX model that makes pictures",
}
_SAYS = {
    "anchors": "rows of boxes and classes",
    "yolov5": "rows of YOLOv5",
    "end-to-end": "end-to-end rows",
    SEMANTIC: "a class for each pixel",
}


@dataclass(frozen=True)
class Plan:
    """How its outputs are read."""

    task: str
    layout: str
    classes: int
    scale: int | None = None


def recognise(upload: Upload) -> str | None:
    """Say that it is an ONNX model; what it does shows when it is converted."""
    return "ONNX model" if upload.format == "onnx" else None


def convert(upload: Upload) -> Bundle:
    """Try the graph once, tell its layout, and take it as it is. Raises Refused."""
    if upload.format != "onnx":
        raise Refused("This is no ONNX file.", code="unknown")
    wishes = read_wishes(upload.config, upload.metadata)
    graph = read_graph(upload)
    (width, height), outputs, difference = try_sizes(graph, list_sizes(graph, wishes))
    graph = settle(graph, (width, height))
    shapes = [output.shape for output in outputs]
    if upload.metadata.get("head") == _SHARING_HEAD:
        raise Refused(f"It is an RT-DETR. {_NO_BOXES}", code="outputs")
    plan = plan_outputs(shapes, (width, height), wishes)
    if not _fits(plan, outputs[0]):
        wishes = _wish_otherwise(outputs[0], wishes)
        plan = plan_outputs(shapes, (width, height), wishes)
    if plan.task == "classify" and width != height:
        text = f"It takes pictures of {width} × {height} pixels; classifiers look at squares."
        raise Refused(text, code="inputs")
    choices = [one for one in list_choices(shapes, (width, height), wishes, plan) if _fits(one, outputs[0])]
    told = _plan_untold(shapes, (width, height), upload)
    colours = _normalisation(plan, wishes, graph.channels)
    takes_rectangles = graph.shape[2] is None and _try_rectangle(graph, (width, height), plan, wishes)
    if graph.shape[2] is None and not wishes.size:
        width = height = _SIDES.get(plan.task, _SIDE)
    tensors = _tensors(graph.model)
    facts = {
        "family": GRAPHS,
        "task": plan.task,
        "title": _title(plan),
        "classes": _names(wishes.names, plan.classes),
        "input": {"width": width, "height": height, "channels": graph.channels},
        "stride": wishes.stride,
        "rectangles": takes_rectangles,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "flops": count_flops(graph, (width, height)),
        "layout": _layout(plan, outputs, wishes, graph),
        "keypoints": list(wishes.keypoints) if plan.task == "pose" and wishes.keypoints else None,
        "scale": plan.scale,
        **colours,
        **_shape(plan, wishes, colours.get("assumed", ())),
        "architecture": _ranges(plan, wishes, graph, outputs),
    }
    meant = [one for one in choices if wishes.task in (None, one.task) and _is_wished(one, wishes)]
    return Bundle(
        facts,
        tensors,
        graph.data,
        difference,
        graph.tolerance,
        choices=tuple(
            Choice(task=one.task, layout=one.layout, classes=one.classes, is_recognised=one == told)
            for one in choices
        ),
        is_certain=len(meant) == 1,
    )


# --- Reading and trying.


def _try_rectangle(graph: Graph, square: Size, plan: Plan, wishes: Wishes) -> bool:
    """Whether a detector that names its stride gives for an input that is no square what it should."""
    if plan.layout not in LAYOUTS or wishes.stride == 1 or square[0] % wishes.stride:
        return False
    # Neither side is one that it was tried with.
    width, height = square[0] + wishes.stride, round_up(square[1] // 2, wishes.stride)
    try:
        outputs, difference = try_graph(graph, draw_noise(graph, (width, height), 2012))
        found = plan_outputs([output.shape for output in outputs], (width, height), wishes)
    except Refused:
        return False
    return found == plan and difference <= graph.tolerance


# --- Telling the layout.


def _fits(plan: Plan, rows: Output) -> bool:
    """Whether what the graph gave for noise can be what its shape says."""
    return plan.layout != "end-to-end" or has_boxes(rows, rotated=plan.task == "obb")


def _wish_otherwise(rows: Output, wishes: Wishes) -> Wishes:
    """Return what to go by for rows that have the end-to-end layout's shape alone. Raises Refused.

    YOLOv5's of one class have six columns, too, the last of which is a share.
    """
    places, last = np.abs(rows[0, :, :4]).max(), rows[0, :, 5]
    is_yolov5 = rows.shape[2] == 6 and places > 1 and last.min() >= 0 and 0 < last.max() <= 1
    # A class's number is whole.
    if wishes.layout or wishes.task not in (None, "detect") or not is_yolov5 or (last == last.round()).all():
        raise Refused(_NO_BOXES, code="outputs")
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


def _plan_untold(shapes: Sequence[tuple[int, ...]], size: Size, upload: Upload) -> Plan | None:
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


def _is_wished(plan: Plan, wishes: Wishes) -> bool:
    return plan.layout not in LAYOUTS or wishes.layout in (None, plan.layout)


def _check(plan: Plan, wishes: Wishes) -> Plan:
    if wishes.task not in (None, plan.task):
        text = f"It is said to be for the task “{wishes.task}”, but its outputs are those of “{plan.task}”."
        raise Refused(text, code="task")
    if wishes.names and plan.task != "image" and len(wishes.names) != plan.classes:
        text = f"It has {plan.classes} classes, but {len(wishes.names)} names were given."
        raise Refused(text, code="names")
    return plan


# --- Facts.


def _title(plan: Plan) -> str:
    said = _SAYS.get(plan.layout)
    return f"{_TITLES[plan.task]} ({said})" if said else _TITLES[plan.task]


def _layout(plan: Plan, outputs: Sequence[Output], wishes: Wishes, graph: Graph) -> str:
    if plan.task != "classify":
        return plan.layout
    shares = outputs[0].reshape(-1)
    is_whole = shares.min() >= 0 and abs(float(shares.sum()) - 1) < 0.01
    # Those of quantised graphs are rounded, and do not always sum up to one.
    is_made = wishes.is_ultralytics or _last_operator(graph.model) in _GIVING_SHARES
    return "probabilities" if is_whole or is_made else "logits"


def _last_operator(model: Any) -> str | None:
    """Return what computes the first output, whatever only brings it into another form behind that."""
    makers = {name: node for node in model.graph.node for name in node.output}
    name = model.graph.output[0].name
    for _ in range(_MOST_FORMS):
        node = makers.get(name)
        if node is None or node.op_type not in _FORMING or not node.input:
            return node.op_type if node is not None else None
        name = node.input[0]
    return None


def _names(names: Sequence[str], count: int) -> list[str]:
    return list(names) if names else [f"class {index}" for index in range(count)]


def _normalisation(plan: Plan, wishes: Wishes, channels: int) -> dict[str, Any]:
    """Means and deviations, ImageNet's unless somebody says otherwise. Exports of Ultralytics have none.

    `assumed` names what nobody said. Raises Refused where they are of another count of channels.
    """
    if plan.task != "classify" and plan.layout != SEMANTIC:
        return {}
    if any(len(given) not in (1, channels) for given in (wishes.mean, wishes.std) if given is not None):
        text = f"Its mean or std has not {channels} numbers, one for each channel."
        raise Refused(text, code="config")
    said = {"mean": wishes.mean, "std": wishes.std}
    assumed = [name for name in said if said[name] is None and not wishes.is_ultralytics]
    if channels == 1 or wishes.mean is not None or wishes.std is not None or wishes.is_ultralytics:
        mean, std = wishes.mean or [0.0] * channels, wishes.std or [1.0] * channels
        return {"mean": mean, "std": std, "assumed": assumed}
    return {"mean": _MEAN, "std": _STD, "assumed": assumed}


def _shape(plan: Plan, wishes: Wishes, assumed: Sequence[str]) -> dict[str, Any]:
    """How pictures become a classifier's squares: the middle is cut out, unless somebody says otherwise."""
    if plan.task != "classify":
        return {}
    if wishes.stretch:
        return {"stretch": True}
    is_said = wishes.crop_pct is not None or wishes.stretch is not None or wishes.is_ultralytics
    return {
        "crop_pct": wishes.crop_pct or 1.0,
        "assumed": [*assumed, *([] if is_said else ["crop_pct"])],
    }


def _ranges(plan: Plan, wishes: Wishes, graph: Graph, outputs: Sequence[Output]) -> dict[str, Any]:
    """How a picture's pixels are written that goes in and comes out. A Tanh at the end gives -1 to 1."""
    if plan.task != "image":
        return {}
    is_signed = _last_operator(graph.model) == "Tanh" or outputs[0].min() < -0.5
    guess = "signed" if is_signed else "byte" if outputs[0].max() > 16 else "unit"
    return {"takes": wishes.takes or guess, "gives": wishes.gives or guess}


def _tensors(model: Any) -> dict[str, Any]:
    """Return the graph's weights as torch tensors. Raises Refused where there are none, or too many."""
    import onnx
    import torch

    tensors = {}
    for name, tensor in list_tensors(model).items():
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind in "fiub" and values.dtype.itemsize <= 8 and values.dtype != np.uint16:
            tensors[name] = torch.from_numpy(np.array(values))
    count = sum(tensor.numel() for tensor in tensors.values())
    if not count or count > MOST_PARAMETERS:
        text = "It has no weights." if not count else f"It has more than {MOST_PARAMETERS:,} parameters."
        raise Refused(text, code="too_large" if count else "empty")
    return tensors
