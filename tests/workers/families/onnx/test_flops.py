"""FLOPs of ONNX graphs: equal to those of the source network, or unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.workers.families.onnx.test_family import convert, trace
from workers.bundle import FolderModel
from workers.checkpoints.open import open_upload
from workers.families.onnx.flops import count_flops
from workers.families.onnx.graph import read_graph

SIDE = 64
# Networks of each family, and the side at which their graphs' operations are counted where any will do.
NETWORKS = [
    ("yolo11n", SIDE),
    ("yolo11n", 640),
    ("yolo11n-seg", SIDE),
    ("yolo11n-cls", SIDE),
    ("yolov5", SIDE),
    ("vit", None),
    ("compact", None),
    ("resnet", None),
    ("unet", None),
]


@pytest.mark.parametrize(("name", "side"), NETWORKS)
def test_an_export_has_those_of_its_checkpoint(
    name: str, side: int | None, model_of: Callable[[str], FolderModel], tmp_path: Path
) -> None:
    checkpoint = model_of(name)
    config = {"names": checkpoint.facts["classes"]} if checkpoint.facts["classes"] else {}
    asked = {**config, **({"size": side} if side else {})}
    model = convert(checkpoint.read("model.onnx"), tmp_path, asked)
    own = checkpoint.facts["input"]["width"] or 1024
    area = model.facts["input"]["width"] * model.facts["input"]["height"] / own**2
    assert area == (100 if side == 640 else 1)
    assert model.facts["flops"] == pytest.approx(checkpoint.facts["flops"] * area, rel=0.02)


def test_borders_that_are_computed_are_no_hindrance(tmp_path: Path) -> None:
    model = convert(
        trace(nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 3, 7)), 48, 48, dynamic=True), tmp_path
    )
    assert model.facts["input"]["width"] == 1024
    assert model.facts["flops"] == 2 * 1024**2 * 3 * 3 * 7 * 7


def _count(nodes: Sequence[Any], folder: Path, told: Sequence[Any] = ()) -> int | None:
    """Count those of nodes that make `out` of `images`, (1, 3, 64, 64), with weights of (5, 3, 20, 20)."""
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    made = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.ones((5, 3, 20, 20), np.float32), "weights")
    graph = helper.make_graph(list(nodes), "few", [given], [made], [weights], value_info=list(told))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "few.onnx").write_bytes(model.SerializeToString())
    return count_flops(read_graph(open_upload(folder / "few.onnx")), (SIDE, SIDE))


CONVOLVED = 2 * 45 * 45 * 5 * 3 * 20 * 20


def test_what_a_graph_says_of_its_shapes_is_not_believed(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["seen"]),
        helper.make_node("Relu", ["seen"], ["out"]),
    ]
    lie = helper.make_tensor_value_info("seen", TensorProto.FLOAT, [1, 5, 1, 1])
    assert _count(nodes, tmp_path, [lie]) == CONVOLVED


def test_where_a_shape_depends_on_the_picture_none_are_told(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["seen"]),
        helper.make_node("NonZero", ["seen"], ["places"]),
        helper.make_node("Cast", ["places"], ["found"], to=1),
        helper.make_node("Transpose", ["found"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["found", "turned"], ["out"]),
    ]
    assert _count(nodes, tmp_path) is None


@pytest.mark.parametrize("work", ["Conv", "Relu"])
def test_what_is_done_for_some_pictures_alone_is_not_counted(work: str, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    branches = {}
    for name, inputs in (("then", ["images", "weights"][: 1 + (work == "Conv")]), ("else", ["images"])):
        kind = work if name == "then" else "Relu"
        told = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph(
            [helper.make_node(kind, inputs, [name])], name, [], [told]
        )
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["is_bright"], to=9),
        helper.make_node("If", ["is_bright"], ["chosen"], **branches),
        helper.make_node("Conv", ["images", "weights"], ["seen"]),
        helper.make_node("ReduceMax", ["chosen"], ["highest"], keepdims=0),
        helper.make_node("Add", ["seen", "highest"], ["out"]),
    ]
    assert _count(nodes, tmp_path) == (CONVOLVED if work == "Relu" else None)


def test_work_that_is_not_known_leaves_none(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["seen"]),
        helper.make_node("Einsum", ["seen", "seen"], ["out"], equation="nchw,nchw->nc"),
    ]
    assert _count(nodes, tmp_path) is None
