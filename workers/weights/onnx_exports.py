"""Uploaded ONNX graphs: what they take and give, told from the graph and from one run of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.vision.detections import LAYOUTS
from workers.vision.letterbox import round_up
from workers.weights.bundle import GRAPHS, Bundle, Choice
from workers.weights.onnx_config import Wishes, read_wishes
from workers.weights.onnx_flops import count_flops
from workers.weights.onnx_graphs import (
    Graph,
    Output,
    Size,
    draw_noise,
    list_tensors,
    read_graph,
    settle,
    try_graph,
)
from workers.weights.onnx_plans import (
    NO_BOXES,
    SEMANTIC,
    Plan,
    fits,
    is_wished,
    list_choices,
    plan_outputs,
    plan_untold,
    wish_otherwise,
)
from workers.weights.onnx_preparation import check_config, try_as_said
from workers.weights.upload import MOST_PARAMETERS, Refused, Upload

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


def recognise(upload: Upload) -> str | None:
    """Say that it is an ONNX model; what it does shows when it is converted."""
    return "ONNX model" if upload.format == "onnx" else None


def convert(upload: Upload) -> Bundle:
    """Try the graph once, tell its layout, and take it as it is. Raises Refused."""
    if upload.format != "onnx":
        raise Refused("This is no ONNX file.", code="unknown")
    if upload.metadata.get("head") == _SHARING_HEAD:
        raise Refused(f"It is an RT-DETR. {NO_BOXES}", code="outputs")
    wishes = read_wishes(upload.config, upload.metadata)
    graph = read_graph(upload)
    (width, height), outputs, difference = try_as_said(graph, wishes)
    graph = settle(graph, (width, height))
    shapes = [output.shape for output in outputs]
    plan = plan_outputs(shapes, (width, height), wishes)
    if not fits(plan, outputs[0]):
        wishes = wish_otherwise(outputs[0], wishes)
        plan = plan_outputs(shapes, (width, height), wishes)
    if plan.task == "classify" and width != height:
        text = f"It takes pictures of {width} × {height} pixels; classifiers look at squares."
        raise Refused(text, code="inputs")
    check_config(plan, wishes, graph, upload)
    choices = [one for one in list_choices(shapes, (width, height), wishes, plan) if fits(one, outputs[0])]
    told = plan_untold(shapes, (width, height), upload)
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
    meant = [one for one in choices if wishes.task in (None, one.task) and is_wished(one, wishes)]
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
    # One class alone is there or not, and its share of 1 would always be all of it.
    is_apart = wishes.scores == "sigmoid" or plan.classes == 1
    if is_made or (is_whole and not is_apart):
        return "probabilities"
    return "sigmoid" if is_apart else "logits"


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
    pixels = {"resample": wishes.resample, "order": wishes.order}
    if wishes.stretch:
        crop = wishes.crop_pct if wishes.crop_pct not in (None, 1) else None
        return {**pixels, "stretch": True, "crop_pct": crop}
    is_said = wishes.crop_pct is not None or wishes.stretch is not None or wishes.is_ultralytics
    return {
        **pixels,
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
