"""Uploaded ONNX graphs: what they take and give, told from the graph and from one run of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.bundle import GRAPHS, Bundle, Choice
from workers.checkpoints.class_names import MOST_NAME
from workers.checkpoints.upload import MOST_PARAMETERS, Refused, WeightsUpload, show
from workers.configs.model_config import Wishes, read_wishes
from workers.families.onnx import surgery
from workers.families.onnx.flops import count_flops
from workers.families.onnx.graph import (
    Graph,
    Size,
    draw_noise,
    edit,
    find_inputs,
    list_tensors,
    read_graph,
    settle,
    try_graph,
)
from workers.families.onnx.output_layouts import (
    LABELS,
    PIXEL_LAYOUTS,
    SEMANTIC,
    OutputPlan,
    is_wished,
    plan_outputs,
)
from workers.families.onnx.outputs import Arranged, arrange
from workers.families.onnx.preparation import check_config, try_as_said
from workers.families.onnx.recognition import list_plans, recognise_scores, recognise_untold
from workers.families.onnx.row_values import NO_BOXES
from workers.tasks import TASKS
from workers.vision import yolox
from workers.vision.detection_outputs import LAYOUTS
from workers.vision.letterbox import round_up

# What classifiers and segmenters are mostly trained on: ImageNet's means and deviations.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# As the metadata of Ultralytics' exports names a head whose boxes are shares of the picture.
_SHARING_HEAD = "RTDETRDecoder"
_MOST_NAME = 60
_SAYS = {
    "anchors": "rows of boxes and classes",
    "yolov5": "rows of YOLOv5",
    "yolox": "cells of YOLOX",
    "yolox-decoded": "rows of YOLOX",
    "end-to-end": "end-to-end rows",
    SEMANTIC: "a class for each pixel",
    LABELS: "the number of a class for each pixel",
}


def recognise(upload: WeightsUpload) -> str | None:
    """Say that it is an ONNX model; what it does shows when it is converted."""
    return "ONNX model" if upload.format == "onnx" else None


@dataclass(frozen=True)
class _Read:
    """A graph with the outputs that are read, and the ways to read them, the likeliest first.

    `untold` is the way that the file alone tells.
    """

    arranged: Arranged
    wishes: Wishes
    plans: tuple[OutputPlan, ...]
    untold: OutputPlan | None
    difference: float

    @property
    def graph(self) -> Graph:
        return self.arranged.graph

    @property
    def plan(self) -> OutputPlan:
        return self.plans[0]

    @property
    def size(self) -> Size:
        return self.arranged.size


def convert(upload: WeightsUpload) -> Bundle:
    """Try the graph, tell what it does, and take it with its ends as this site runs them. Raises Refused."""
    if upload.format != "onnx":
        raise Refused("This is no ONNX file.", code="unknown")
    if upload.metadata.get("head") == _SHARING_HEAD:
        raise Refused(f"It is an RT-DETR. {NO_BOXES}", code="outputs")
    read = _read(upload)
    plan, wishes, (width, height) = read.plan, read.wishes, read.size
    if plan.task == "classify" and width != height:
        text = f"It takes pictures of {width} × {height} pixels; classifiers look at squares."
        raise Refused(text, code="inputs")
    check_config(plan, wishes, read.graph, upload)
    colours = _normalisation(plan, wishes, read.graph)
    graph, difference = _prepare_input(read)
    takes_rectangles = graph.shape[2] is None and _try_rectangle(graph, read.size, plan, wishes)
    if graph.shape[2] is None and not wishes.size:
        width = height = TASKS[plan.task].usual_side
    tensors = _tensors(graph.model)
    scores = recognise_scores(read.arranged, wishes, plan)
    facts = {
        "family": GRAPHS,
        "task": plan.task,
        "title": _title(plan),
        "classes": _names(wishes.names, plan),
        "input": {"width": width, "height": height, "channels": graph.channels},
        "stride": wishes.stride,
        "rectangles": takes_rectangles,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "flops": count_flops(graph, (width, height)),
        "layout": scores if plan.task == "classify" else plan.layout,
        "keypoints": list(wishes.keypoints) if plan.task == "pose" and wishes.keypoints else None,
        "scale": plan.scale,
        **colours,
        **_shape(plan, wishes, colours.get("assumed", ())),
        "output": _output(read.arranged),
        "architecture": ({"scores": scores} if scores and plan.layout == SEMANTIC else {}) | _ranges(read),
    }
    return Bundle(
        facts,
        tensors,
        graph.data,
        difference,
        graph.tolerance,
        choices=tuple(
            Choice(task=one.task, layout=one.layout, classes=one.classes, is_recognised=one == read.untold)
            for one in read.plans
        ),
        is_certain=_is_certain(read),
    )


def _read(upload: WeightsUpload) -> _Read:
    wishes = read_wishes(upload.config, upload.metadata)
    graph = read_graph(upload)
    size, outputs, difference = try_as_said(graph, wishes)
    graph = settle(graph, size)
    arranged = arrange(graph, outputs, size, wishes)
    plans = list_plans(arranged, wishes)
    says = {"task", "layout"} & (upload.config or {}).keys()
    untold = recognise_untold(arranged, upload) if says else plans[0]
    return _Read(arranged, wishes, plans, untold, difference)


def _is_certain(read: _Read) -> bool:
    """Whether one way of reading alone fits what is said."""
    return sum(is_wished(one, read.wishes) for one in read.plans) == 1


def _prepare_input(read: _Read) -> tuple[Graph, float]:
    """Return the graph that takes red, green and blue of 0 to 1, and how its two forms differ.

    What classifiers and segmenters do with pixels is done before, and so are the ranges of pictures.
    """
    graph, wishes, plan = read.graph, read.wishes, read.plan
    is_yolox = yolox.is_yolox(plan.layout) and wishes.mean is None and wishes.std is None
    steps = _scaling(graph, wishes, is_yolox=is_yolox) if plan.layout in LAYOUTS else []
    order = wishes.order or ("bgr" if is_yolox else "rgb")
    is_reversed = order == "bgr" and graph.channels == 3 and plan.task != "classify"
    if is_reversed:
        steps.append(surgery.reverse_channels())
    if steps:
        import onnx

        kind = onnx.TensorProto.FLOAT16 if graph.is_half else onnx.TensorProto.FLOAT

        def change(model: Any) -> None:
            given = find_inputs(model)[0]
            surgery.put_before(model, given, steps, order=(0, 1, 2, 3), kind=kind)
            if is_reversed and plan.task == "image" and read.arranged.heads[0].shape[1] == 3:
                surgery.put_behind(model, model.graph.output[0], [surgery.reverse_channels()])

        graph = edit(graph, change)
    if not steps and not read.arranged.is_changed:
        return graph, read.difference
    # Of outputs that are not read, nothing counts.
    return graph, try_graph(graph, draw_noise(graph, read.size, 2015))[1]


def _scaling(graph: Graph, wishes: Wishes, *, is_yolox: bool) -> list[surgery.NewNode]:
    """Return what detectors do with pixels of 0 to 1: nothing, mostly. YOLOX takes bytes."""
    if wishes.mean is not None or wishes.std is not None:
        mean, std = wishes.mean or [0.0], wishes.std or [1.0]
        return [surgery.add([-one for one in mean]), surgery.multiply([1 / one for one in std])]
    takes = wishes.takes or ("byte" if is_yolox else "unit")
    if takes == "signed":
        return [surgery.multiply([2]), surgery.add([-1])]
    return [surgery.multiply([255])] if takes == "byte" and not graph.takes_bytes else []


def _try_rectangle(graph: Graph, square: Size, plan: OutputPlan, wishes: Wishes) -> bool:
    """Whether a detector that names its stride gives for an input that is no square what it should."""
    if plan.layout not in LAYOUTS or wishes.stride == 1 or square[0] % wishes.stride:
        return False
    wishes = wishes.model_copy(update={"task": plan.task, "layout": plan.layout})
    # Neither side is one that it was tried with.
    width, height = square[0] + wishes.stride, round_up(square[1] // 2, wishes.stride)
    try:
        outputs, difference = try_graph(graph, draw_noise(graph, (width, height), 2012))
        found = plan_outputs([output.shape for output in outputs], (width, height), wishes)
    except Refused:
        return False
    return found == plan and difference <= graph.tolerance


def _title(plan: OutputPlan) -> str:
    said = _SAYS.get(plan.layout)
    title = f"ONNX {TASKS[plan.task].noun}"
    return f"{title} ({said})" if said else title


def _output(arranged: Arranged) -> dict[str, Any] | None:
    """Return which of several outputs is read; None where all are."""
    if arranged.count == len(arranged.heads):
        return None
    return {"name": show(arranged.name, _MOST_NAME) or "unnamed", "count": arranged.count}


def _names(names: Sequence[str], plan: OutputPlan) -> list[str]:
    # One number tells whether something is there, in the picture or at each pixel.
    if len(names) == 1 and plan.classes == 2:
        return [f"not {names[0]}"[:MOST_NAME], names[0]]
    if len(names) == 2 and plan.classes == 1:
        return [names[1]]
    return list(names) if names else [f"class {index}" for index in range(plan.classes)]


def _normalisation(plan: OutputPlan, wishes: Wishes, graph: Graph) -> dict[str, Any]:
    """Means and deviations, ImageNet's unless somebody says otherwise. Exports of Ultralytics have none.

    `assumed` names what nobody said. Raises Refused where they are of another count of channels.
    """
    channels, given = graph.channels, [one for one in (wishes.mean, wishes.std) if one is not None]
    if any(len(numbers) not in (1, channels) for numbers in given):
        text = f"Its mean or std has not {channels} numbers, one for each channel."
        raise Refused(text, code="config")
    if given and graph.takes_bytes:
        text = "Its input is of bytes, so what is done with pixels is part of it: leave mean and std out."
        raise Refused(text, code="config")
    if plan.task != "classify" and plan.layout not in PIXEL_LAYOUTS:
        return {}
    if graph.takes_bytes:
        return {"mean": [0.0] * channels, "std": [1.0] * channels, "assumed": []}
    said = {"mean": wishes.mean, "std": wishes.std}
    assumed = [name for name in said if said[name] is None and not wishes.is_ultralytics]
    if channels == 1 or wishes.mean is not None or wishes.std is not None or wishes.is_ultralytics:
        mean, std = wishes.mean or [0.0] * channels, wishes.std or [1.0] * channels
        return {"mean": mean, "std": std, "assumed": assumed}
    return {"mean": _MEAN, "std": _STD, "assumed": assumed}


def _shape(plan: OutputPlan, wishes: Wishes, assumed: Sequence[str]) -> dict[str, Any]:
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


def _ranges(read: _Read) -> dict[str, Any]:
    """How a picture's pixels are written that goes in and comes out. A Tanh at the end gives -1 to 1."""
    if read.plan.task != "image":
        return {}
    graph, wishes, made = read.graph, read.wishes, read.arranged.heads[0].values
    is_signed = read.arranged.last_operator() == "Tanh" or made.min() < -0.5
    is_byte = made.dtype == np.uint8 or made.max() > 16
    guess = "signed" if is_signed else "byte" if is_byte else "unit"
    # Where the graph takes bytes, they are made in front of it.
    takes = "unit" if graph.takes_bytes else wishes.takes or guess
    return {"takes": takes, "gives": wishes.gives or guess}


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
