"""Models for tests: graphs with constant outputs, and small exported networks."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class MemoryModel:
    """A converted model in memory."""

    def __init__(self, onnx: bytes, facts: Mapping[str, Any]) -> None:
        self._onnx = onnx
        self.facts = facts
        self.key = hashlib.sha256(onnx + repr(sorted(facts.items())).encode()).hexdigest()
        self.reads = 0

    def read(self, name: str, /) -> bytes:
        assert name == "model.onnx"
        self.reads += 1
        return self._onnx


def facts_of(task: str, classes: Sequence[str], side: int = 64, **more: Any) -> dict[str, Any]:
    return {
        "family": "yolo",
        "task": task,
        "title": "A model",
        "classes": list(classes),
        "input": {"width": side, "height": side, "channels": 3},
        **more,
    }


def fixed(facts: Mapping[str, Any], *outputs: np.ndarray, size: int | str | None = None) -> MemoryModel:
    """Return a model with constant outputs. With `size` "dynamic", it accepts images of any size."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side = size if size is not None else facts["input"]["width"]
    sides = ["height", "width"] if side == "dynamic" else [side, side]
    shown = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, [1, facts["input"]["channels"], *sides]
    )
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["brightest", "brightest"], ["nothing"]),
    ]
    told, constants = [], []
    for index, output in enumerate(outputs):
        constants.append(numpy_helper.from_array(output.astype(np.float32), f"answer{index}"))
        nodes.append(helper.make_node("Add", [f"answer{index}", "nothing"], [f"output{index}"]))
        told.append(helper.make_tensor_value_info(f"output{index}", TensorProto.FLOAT, list(output.shape)))
    graph = helper.make_graph(nodes, "fixed", [shown], told, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return MemoryModel(model.SerializeToString(), facts)


def build(name: str, task: str, classes: int, *, end_to_end: bool = False) -> Any:
    """Return an Ultralytics network with random weights that has detections."""
    import torch
    from ultralytics.nn import tasks

    kinds = {
        "detect": tasks.DetectionModel,
        "segment": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = kinds[task](f"{name}.yaml", nc=classes, verbose=False).eval()
    with torch.no_grad():
        for parameter, value in network.named_parameters():
            # Batch norms that change something.
            if parameter.endswith("bn.weight"):
                value.uniform_(0.8, 1.6)
            elif parameter.endswith("bn.bias"):
                value.normal_(0, 0.3)
        _spread(network)
    if end_to_end:
        network.model[-1].end2end = True
    return network


def _spread(network: Any) -> None:
    """Scale the head to scores around 0.5, boxes of some pixels, and masks that cover a part of them."""
    head = network.model[-1]
    for branch, mean, spread in (("cv3", -0.5, 0.5), ("cv4", 0.0, 0.5), ("cv2", 0.0, 0.3)):
        for name in (branch, f"one2one_{branch}"):
            for layers in getattr(head, name, None) or ():
                layers[-1].weight.normal_(0, spread)
                layers[-1].bias.normal_(mean, spread)
                if branch == "cv2":
                    # Distances are means over sixteen bins: the near ones weigh more. Or there are no bins.
                    bins = layers[-1].bias.view(4, -1)
                    bins[:, 3:].sub_(4)
                    bins.add_(1.5 if bins.shape[1] == 1 else 0)


def export(network: Any, side: int) -> bytes:
    """Export as Ultralytics does: head in export mode, without NMS. Changes the network."""
    import torch

    for module in network.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = torch.zeros(1, 3, side, side)
        network(shown)
        torch.onnx.export(network, shown, target, dynamo=False, opset_version=17, input_names=["images"])
    return target.getvalue()
