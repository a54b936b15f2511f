"""What a graph does that nobody saw when it was converted: a sentence for whoever runs it, and sound data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.families import samples
from tests.families.models import MemoryModel, facts_of, fixed
from tests.workers.samples import draw, encode
from workers import engine
from workers.inference.faults import ModelFault
from workers.plugin import Context
from workers.recipe import Recipe

PICTURE = encode(draw(80, 60, seed=4), "PNG")
LAYOUTS = {"anchors": samples.anchors, "end-to-end": samples.end_to_end, "yolov5": samples.yolov5}
# Where the confidence of the first thing stands, in the output of one picture.
_SCORES = {"anchors": (0, 4, 0), "end-to-end": (0, 0, 4), "yolov5": (0, 0, 5)}
_PICTURED = {"layout": "picture", "scale": 1, "architecture": {"takes": "unit", "gives": "unit"}}


def run(model: MemoryModel) -> Any:
    return engine.run(Recipe.single("onnx", weights=model.key), PICTURE, Context(models={model.key: model}))


def _found(model: MemoryModel) -> list[Any]:
    data = run(model).data
    assert isinstance(data, dict)
    # The database takes no infinity.
    json.dumps(data, allow_nan=False)
    found = data["predictions"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("score", [np.inf, np.nan, 1e30])
def test_nothing_is_surer_than_sure(layout: str, score: float) -> None:
    output = LAYOUTS[layout]()
    output[_SCORES[layout]] = score
    found = _found(fixed(facts_of("detect", samples.NAMES, layout=layout), output))
    sure = [one["confidence"] for one in found if one["class"] == "cat"]
    assert sure == ([1] if score == 1e30 else [])
    assert [one["class"] for one in found if one["class"] != "cat"][:2] == ["dog", "traffic light"]


@pytest.mark.parametrize("class_id", [np.nan, np.inf, -np.inf, -7, 1e9])
def test_a_class_that_is_none(class_id: float) -> None:
    output = samples.end_to_end()
    output[0, 0, 5] = class_id
    names = [
        one["class"] for one in _found(fixed(facts_of("detect", samples.NAMES, layout="end-to-end"), output))
    ]
    assert set(names) <= set(samples.NAMES)
    assert len(names) == (3 if np.isnan(class_id) else 4)


@pytest.mark.parametrize(("share", "told"), [(np.inf, 1), (-np.inf, 0.7), (np.nan, 0.7), (40, 1)])
def test_a_share_is_none_above_one(share: float, told: float) -> None:
    output = np.array([[share, 0.7, 0.1]])
    found = _found(fixed(facts_of("classify", samples.NAMES, layout="probabilities"), output))
    assert found[0]["confidence"] == pytest.approx(told)
    assert all(0 <= one["confidence"] <= 1 for one in found)


_SHAPES = [(1, 7, 0), (1, 0, 8), (1, 6, 21), (7, 20), (1, 7, 20, 1), (2, 7, 20), (0, 7, 20), (1,), (1, 4)]
_KINDS: dict[str, dict[str, Any]] = {
    "detect": {"layout": "anchors"},
    "segment": {"layout": "anchors"},
    "obb": {"layout": "end-to-end"},
    "pose": {"layout": "yolov5", "keypoints": [4, 3]},
    "classify": {"layout": "logits"},
    "image": _PICTURED,
}


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_outputs_of_another_shape(shape: tuple[int, ...]) -> None:
    """Which a graph can give for one picture and not for another."""
    for task, more in _KINDS.items():
        model = fixed(facts_of(task, samples.NAMES, **more), np.ones(shape))
        if task == "detect" and shape == (1, 7, 0):
            assert _found(model) == []
            continue
        with pytest.raises(ModelFault, match="something else") as caught:
            run(model)
        assert caught.value.code == "model_fault"
    labels = fixed(facts_of("segment", samples.NAMES, layout="semantic"), np.ones(shape))
    if shape != (1, 7, 20, 1):
        with pytest.raises(ModelFault, match="something else"):
            run(labels)


def test_a_graph_that_breaks_down() -> None:
    """It says that it takes pictures of any size, and takes none but those of 32 pixels a side."""
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "height", "width"])
    told = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])
    places = numpy_helper.from_array(np.ones((1, 3, 32, 32), np.float32), "places")
    nodes = [
        helper.make_node("Add", ["images", "places"], ["placed"]),
        helper.make_node("ReduceMean", ["placed"], ["out"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "graph", [given], [told], [places])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    facts = facts_of("classify", samples.NAMES, 32, layout="logits")
    assert len(_found(MemoryModel(data.SerializeToString(), facts))) == 3
    facts = facts_of("classify", samples.NAMES, 48, layout="logits")
    with pytest.raises(ModelFault, match="breaks down"):
        run(MemoryModel(data.SerializeToString(), facts))
