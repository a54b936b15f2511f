"""ONNX graphs that are refused, or need too much memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.families import samples
from tests.workers.families.models import MemoryModel
from tests.workers.families.onnx.test_family import centers, convert, found, giving, run, trace
from workers.checkpoints.upload import Refused
from workers.plugin import OperationError


def _two_inputs() -> bytes:
    from onnx import TensorProto, helper

    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "ab"]
    told = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", given, [told])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()


def _in_another_file() -> bytes:
    import onnx

    model = onnx.load_model_from_string(giving(np.zeros((1, 10))))
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    return model.SerializeToString()


def _without_batch() -> bytes:
    import onnx

    model = onnx.load_model_from_string(giving(np.zeros((5, 4)), np.zeros(5), np.zeros(5)))
    del model.graph.input[0].type.tensor_type.shape.dim[0]
    return model.SerializeToString()


REFUSED: dict[str, tuple[Any, dict[str, Any] | None, str]] = {
    "two inputs": (_two_inputs, None, "has 2 inputs"),
    "NaN": (lambda: giving(np.full((1, 7, 84), np.nan)), None, "not finite"),
    "five axes": (lambda: giving(np.zeros((1, 2, 3, 4, 5))), None, "output shape .* is not supported"),
    "a batch": (lambda: giving(np.zeros((8, 100))), None, "has no batch of 1"),
    "too few names": (lambda: giving(np.zeros((1, 10))), {"names": ["a"]}, "10 classes, but .* has 1 names"),
    "other names": (lambda: giving(np.zeros((1, 9, 84))), {"names": ["a"] * 9}, "not fit 9 classes"),
    "names with a gap": (lambda: giving(np.zeros((1, 2))), {"names": {"0": "a", "2": "b"}}, "without a gap"),
    "a long name": (
        lambda: giving(np.zeros((1, 2))),
        {"names": ["a", "b" * 90_000]},
        "class 1, “b{40}…”, has a name of 90,000 characters; the limit is 200",
    ),
    "long names": (
        lambda: giving(np.zeros((1, 2501))),
        {"id2label": {str(number): "b" * 200 for number in range(2501)}},
        "2,501 classes have 500,200 characters in total; the limit is 500,000",
    ),
    "another task": (lambda: giving(np.zeros((1, 10))), {"task": "detect"}, "has the task .detect."),
    "no such task": (lambda: giving(np.zeros((1, 10))), {"task": "fly"}, "configuration is not valid: task"),
    "no deviation": (lambda: giving(np.zeros((1, 10))), {"std": [0]}, "configuration is not valid: std"),
    "no picture": (lambda: giving(np.zeros((1, 3, 50, 64))), {"task": "image"}, "not an image with"),
    "shares of the picture": (lambda: giving(centers(1, last=16)), None, "not boxes in pixels"),
    "shares of one class": (lambda: giving(centers(1, last=0.5)), None, "not boxes in pixels"),
    "centers": (lambda: giving(centers(64, last=16)), None, "not boxes in pixels"),
    "centers of one class": (lambda: giving(centers(64)), {"names": ["a"]}, "not boxes in pixels"),
    "centers all the same": (lambda: giving(centers(64)), {"layout": "end-to-end"}, "not boxes in pixels"),
    "boxes apart": (lambda: giving(np.zeros((5, 4)), np.zeros(5), np.zeros(5)), None, "scores and labels"),
    "a box apart": (lambda: giving(np.zeros((1, 4)), np.zeros(1), np.zeros(1)), None, "scores and labels"),
    "scores first": (lambda: giving(np.zeros((1, 99, 7)), np.zeros((1, 99, 4))), None, "scores and labels"),
    "a count first": (
        lambda: giving(np.zeros((1, 1)), np.zeros((1, 99, 4)), np.zeros((1, 99)), np.zeros((1, 99))),
        None,
        "scores and labels",
    ),
    "in another file": (_in_another_file, None, "external_data=False"),
    "without a batch": (_without_batch, None, "Detectors of torchvision are not supported"),
    "another layout": (lambda: giving(np.zeros((1, 7, 84))), {"layout": "end-to-end"}, "not have 6 columns"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_run_is_refused_with_a_sentence(case: str, tmp_path: Path) -> None:
    onnx, config, sentence = REFUSED[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(onnx(), tmp_path, config)
    assert caught.value.message.rstrip("”").endswith((".", "?"))


def test_a_graph_that_asks_for_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    assert _convert_in_little_memory(_bomb(), tmp_path).startswith("MemoryError")


@pytest.mark.parametrize("is_too_much", [False, True])
def test_a_graph_of_any_size_is_tried_with_small_ones_where_memory_is_short(
    is_too_much: bool, tmp_path: Path
) -> None:
    """As enlargers need it: of each pixel, and here of each pair of them."""
    import torch

    class Pairs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1)

        def forward(self, x: Any) -> Any:
            larger = torch.nn.functional.interpolate(x, scale_factor=2.0 if is_too_much else 1.0)
            light = larger.mean(1).flatten()
            return self.conv(x) + (light[:, None] * light[None]).mean()

    said = _convert_in_little_memory(trace(Pairs(), 64, 64, dynamic=True), tmp_path)
    if is_too_much:
        assert said.startswith("Refused It needs more memory than a conversion can use")
        assert "{“size”: 96}" in said
    else:
        assert said == "converted (1, 3, None, None)"


def _convert_in_little_memory(onnx: bytes, folder: Path) -> str:
    """What becomes of it in a process of its own, with little more address space than that has by then."""
    script = f"""
import resource, sys
from pathlib import Path
from workers import registry
from workers.inference.sessions import open_session
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
import torch, onnx, onnxruntime
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
try:
    made = registry.get("onnx").convert(open_upload(Path({str(folder / "large.onnx")!r})))
    print("converted", open_session(made.onnx).shape)
except (MemoryError, Refused) as error:
    print(type(error).__name__, error)
"""
    (folder / "large.onnx").write_bytes(onnx)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[4], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def _bomb() -> bytes:
    """A column times a row, again and again: sizes that no constant tells."""
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    told = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    column = numpy_helper.from_array(np.ones((1, 1, 40_000, 1), np.float32), "column")
    row = numpy_helper.from_array(np.ones((1, 1, 1, 40_000), np.float32), "row")
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["column", "brightest"], ["high"]),
        helper.make_node("Mul", ["high", "row"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "bomb", [given], [told], [column, row])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()


def test_a_model_for_one_size_says_so() -> None:
    model: MemoryModel = samples.detector()
    assert found(model, image_size=64)
    with pytest.raises(OperationError, match="only supports 64 × 64 pixels"):
        run(model, image_size=96)
    assert found(samples.detector(size="dynamic"), image_size=96)
