"""Conversion of ONNX files: recognize input, task and output layout, and adapt the graph."""

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
from workers.families.onnx.recognition import list_plans, recognize_scores, recognize_untold
from workers.families.onnx.row_values import NO_BOXES
from workers.tasks import TASKS
from workers.vision import yolox
from workers.vision.detection_outputs import LAYOUTS
from workers.vision.letterbox import round_up

# Default normalization of classifiers and segmenters: mean and std of ImageNet.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Head in the metadata of Ultralytics exports whose boxes are fractions of the image.
_RELATIVE_BOX_HEAD = "RTDETRDecoder"
_MOST_NAME = 60
_LAYOUT_TITLES = {
    "anchors": "YOLOv8 output",
    "yolov5": "YOLOv5 output",
    "yolox": "YOLOX output",
    "yolox-decoded": "decoded YOLOX output",
    "end-to-end": "end-to-end output",
    SEMANTIC: "semantic segmentation scores",
    LABELS: "semantic segmentation labels",
}


def recognize(upload: WeightsUpload) -> str | None:
    """Return a title if the upload is an ONNX file, else None. The task is recognized by `convert`."""
    return "ONNX model" if upload.format == "onnx" else None


@dataclass(frozen=True)
class _Read:
    """A graph, its outputs, and the possible output plans, most likely first.

    `untold` is the plan without the task and layout of the config.json.
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
    """Run the graph on noise, recognize its task, and adapt its input and outputs. Raises Refused."""
    if upload.format != "onnx":
        raise Refused("This is not an ONNX file.", code="unknown")
    if upload.metadata.get("head") == _RELATIVE_BOX_HEAD:
        raise Refused(f"RT-DETR models are not supported. {NO_BOXES}", code="outputs")
    read = _read(upload)
    plan, wishes, (width, height) = read.plan, read.wishes, read.size
    if plan.task == "classify" and width != height:
        text = f"Its input is {width} × {height} pixels. Classifiers need a square input."
        raise Refused(text, code="inputs")
    check_config(plan, wishes, read.graph, upload)
    colors = _normalization(plan, wishes, read.graph)
    graph, difference = _prepare_input(read)
    takes_rectangles = graph.shape[2] is None and _try_rectangle(graph, read.size, plan, wishes)
    if graph.shape[2] is None and not wishes.size:
        width = height = TASKS[plan.task].usual_side
    tensors = _tensors(graph.model)
    scores = recognize_scores(read.arranged, wishes, plan)
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
        **colors,
        **_shape(plan, wishes, colors.get("assumed", ())),
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
    untold = recognize_untold(arranged, upload) if says else plans[0]
    return _Read(arranged, wishes, plans, untold, difference)


def _is_certain(read: _Read) -> bool:
    """Return whether exactly one output plan matches the config."""
    return sum(is_wished(one, read.wishes) for one in read.plans) == 1


def _prepare_input(read: _Read) -> tuple[Graph, float]:
    """Return the graph with RGB input from 0 to 1, and its difference with and without optimization.

    The normalization of classifiers and segmenters, and pixel ranges, are applied outside the graph.
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
    # Outputs that are not read do not count.
    return graph, try_graph(graph, draw_noise(graph, read.size, 2015))[1]


def _scaling(graph: Graph, wishes: Wishes, *, is_yolox: bool) -> list[surgery.NewNode]:
    """Return the nodes that scale pixels from 0..1 for detectors: usually none. YOLOX takes 0..255."""
    if wishes.mean is not None or wishes.std is not None:
        mean, std = wishes.mean or [0.0], wishes.std or [1.0]
        return [surgery.add([-one for one in mean]), surgery.multiply([1 / one for one in std])]
    takes = wishes.takes or ("byte" if is_yolox else "unit")
    if takes == "signed":
        return [surgery.multiply([2]), surgery.add([-1])]
    return [surgery.multiply([255])] if takes == "byte" and not graph.takes_bytes else []


def _try_rectangle(graph: Graph, square: Size, plan: OutputPlan, wishes: Wishes) -> bool:
    """Return whether a detector with a known stride works with an input that is not square."""
    if plan.layout not in LAYOUTS or wishes.stride == 1 or square[0] % wishes.stride:
        return False
    wishes = wishes.model_copy(update={"task": plan.task, "layout": plan.layout})
    # Use sides that were not tried before.
    width, height = square[0] + wishes.stride, round_up(square[1] // 2, wishes.stride)
    try:
        outputs, difference = try_graph(graph, draw_noise(graph, (width, height), 2012))
        found = plan_outputs([output.shape for output in outputs], (width, height), wishes)
    except Refused:
        return False
    return found == plan and difference <= graph.tolerance


def _title(plan: OutputPlan) -> str:
    said = _LAYOUT_TITLES.get(plan.layout)
    title = f"ONNX {TASKS[plan.task].noun}"
    return f"{title} ({said})" if said else title


def _output(arranged: Arranged) -> dict[str, Any] | None:
    """Return the output that is read, of several; None if all are read."""
    if arranged.count == len(arranged.heads):
        return None
    return {"name": show(arranged.name, _MOST_NAME) or "unnamed", "count": arranged.count}


def _names(names: Sequence[str], plan: OutputPlan) -> list[str]:
    # A single score is a binary class, of the image or of each pixel.
    if len(names) == 1 and plan.classes == 2:
        return [f"not {names[0]}"[:MOST_NAME], names[0]]
    if len(names) == 2 and plan.classes == 1:
        return [names[1]]
    return list(names) if names else [f"class {index}" for index in range(plan.classes)]


def _normalization(plan: OutputPlan, wishes: Wishes, graph: Graph) -> dict[str, Any]:
    """Return mean and std: those of the config, else of ImageNet. Exports of Ultralytics have none.

    `assumed` lists the values that were not specified. Raises Refused if the number of channels differs.
    """
    channels, given = graph.channels, [one for one in (wishes.mean, wishes.std) if one is not None]
    if any(len(numbers) not in (1, channels) for numbers in given):
        text = f"The mean or std of its config.json must have {channels} numbers, one for each channel."
        raise Refused(text, code="config")
    if given and graph.takes_bytes:
        text = "Its input is uint8, so the graph normalizes it. Remove mean and std from the config.json."
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
    """Return how images are resized for a classifier: center crop, unless the config differs."""
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
    """Return the pixel ranges of the input and output of an image-to-image model. Tanh gives -1..1."""
    if read.plan.task != "image":
        return {}
    graph, wishes, made = read.graph, read.wishes, read.arranged.heads[0].values
    is_signed = read.arranged.last_operator() == "Tanh" or made.min() < -0.5
    is_byte = made.dtype == np.uint8 or made.max() > 16
    guess = "signed" if is_signed else "byte" if is_byte else "unit"
    # If the graph takes bytes, nodes before it convert the pixels.
    takes = "unit" if graph.takes_bytes else wishes.takes or guess
    return {"takes": takes, "gives": wishes.gives or guess}


def _tensors(model: Any) -> dict[str, Any]:
    """Return the weights of the graph as torch tensors. Raises Refused if there are none or too many."""
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
