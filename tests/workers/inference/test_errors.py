"""Faults of graphs that conversion did not show: clear errors and valid data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.families import samples
from tests.workers.families.models import MemoryModel, facts_of, fixed
from tests.workers.media.samples import draw, encode
from workers import engine
from workers.inference.errors import ModelFault
from workers.inference.sessions import open_session
from workers.plugin import Context
from workers.recipe import Recipe
from workers.vision import tiles

PICTURE = encode(draw(80, 60, seed=4), "PNG")
LAYOUTS = {"anchors": samples.anchors, "end-to-end": samples.end_to_end, "yolov5": samples.yolov5}
# Position of the first detection's confidence in the output for one image.
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
def test_no_confidence_is_above_1(layout: str) -> None:
    output = LAYOUTS[layout]()
    output[_SCORES[layout]] = 1e30
    found = _found(fixed(facts_of("detect", samples.NAMES, layout=layout), output))
    sure = [one["confidence"] for one in found if one["class"] == "cat"]
    assert sure == [1]
    assert [one["class"] for one in found if one["class"] != "cat"][:2] == ["dog", "traffic light"]


@pytest.mark.parametrize("class_id", [-7, 1e9])
def test_an_invalid_class_number(class_id: float) -> None:
    output = samples.end_to_end()
    output[0, 0, 5] = class_id
    names = [
        one["class"] for one in _found(fixed(facts_of("detect", samples.NAMES, layout="end-to-end"), output))
    ]
    assert set(names) <= set(samples.NAMES)
    assert len(names) == 4


@pytest.mark.parametrize(("share", "told"), [(-np.inf, 0.7), (-3, 0.7), (40, 1)])
def test_no_probability_is_above_1(share: float, told: float) -> None:
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
    """A graph can return them for some images only."""
    for task, more in _KINDS.items():
        model = fixed(facts_of(task, samples.NAMES, **more), np.ones(shape))
        if task == "detect" and shape == (1, 7, 0):
            assert _found(model) == []
            continue
        with pytest.raises(ModelFault, match="does not have the format") as caught:
            run(model)
        assert caught.value.code == "model_fault"
    labels = fixed(facts_of("segment", samples.NAMES, layout="semantic"), np.ones(shape))
    if shape != (1, 7, 20, 1):
        with pytest.raises(ModelFault, match="does not have the format"):
            run(labels)


def test_a_graph_that_fails_on_an_image() -> None:
    """It declares any image size, but accepts only 32 x 32 pixels."""
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
    with pytest.raises(ModelFault, match="fails on this image"):
        run(MemoryModel(data.SerializeToString(), facts))


# --- NaN and infinity.


def _detector(layout: str, *place: int, value: float, row: int = 0) -> MemoryModel:
    """Return a detector with `value` at the position `place` of a row."""
    output = LAYOUTS[layout]()
    rows = output[0].T if layout == "anchors" else output[0]
    rows[row, place] = value
    return fixed(facts_of("detect", samples.NAMES, layout=layout), output)


def _end(*numbers: float) -> MemoryModel:
    return fixed(facts_of("classify", samples.NAMES, layout="logits"), np.array([numbers]))


def _shares(*numbers: float) -> MemoryModel:
    return fixed(facts_of("classify", samples.NAMES, layout="probabilities"), np.array([numbers]))


def _with_prototypes(value: float) -> MemoryModel:
    prototypes = np.ones((1, 4, 16, 16))
    prototypes[0, 2, 5, 5] = value
    facts = facts_of("segment", samples.NAMES, layout="anchors")
    return fixed(facts, samples.anchors(np.full((4, 4), 0.5)), prototypes)


def _with_further(task: str, value: float, count: int, **more: Any) -> MemoryModel:
    further = np.full((4, count), 0.5)
    further[0, -1] = value
    return fixed(facts_of(task, samples.NAMES, layout="anchors", **more), samples.anchors(further))


def _pixels(value: float, classes: int = 3, layout: str = "semantic") -> MemoryModel:
    output = np.zeros((1, classes, 8, 8))
    output[0, 0, 3, 4] = value
    return fixed(facts_of("segment", samples.NAMES[:classes], layout=layout), output)


def _picture(value: float) -> MemoryModel:
    output = np.zeros((1, 3, 64, 64))
    output[0, 1, 9, 9] = value
    return fixed(facts_of("image", (), **_PICTURED), output)


_NOT_FINITE: dict[str, Any] = {
    **{f"a score of {layout}": lambda v, at=layout: _detector(at, 4, value=v) for layout in LAYOUTS},
    **{f"a box of {layout}": lambda v, at=layout: _detector(at, 2, value=v) for layout in LAYOUTS},
    "a class": lambda v: _detector("end-to-end", 5, value=v),
    "a score of an unused row": lambda v: _detector("yolov5", 4, value=v, row=1),
    "a class's score": lambda v: _detector("yolov5", 6, value=v),
    "a logit": lambda v: _end(1, v, 2),
    "all logits": lambda v: _end(v, v, v),
    "a share": lambda v: _shares(0.1, v, 0.3),
    "a prototype": _with_prototypes,
    "a keypoint": lambda v: _with_further("pose", v, 51, keypoints=[17, 3]),
    "an angle": lambda v: _with_further("obb", v, 1),
    "a class of a pixel": _pixels,
    "a mask of one class": lambda v: _pixels(v, 1),
    "a label": lambda v: _pixels(v, 1, "labels"),
    "a pixel": _picture,
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("what", list(_NOT_FINITE))
def test_values_that_are_not_finite_are_reported(what: str, value: float) -> None:
    with pytest.raises(ModelFault, match="this image is not finite: it contains NaN or infinity") as caught:
        run(_NOT_FINITE[what](value))
    # The same code as at conversion.
    assert caught.value.code == "numbers"
    assert not caught.value.killed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_transformer_s_values_that_are_not_finite(value: float) -> None:
    facts = facts_of("classify", samples.NAMES, family="vit", mean=[0.5] * 3, std=[0.5] * 3)
    model = fixed(facts, np.array([[0.2, value, 0.3]]))
    with pytest.raises(ModelFault, match="not finite"):
        engine.run(Recipe.single("vit", weights=model.key), PICTURE, Context(models={model.key: model}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_generator_s_values_that_are_not_finite(value: float) -> None:
    made = np.zeros((1, 3, 64, 64))
    made[0, 2, 5, 5] = value
    model = fixed(facts_of("image", ()), made)
    with pytest.raises(ModelFault, match="not finite"):
        tiles.to_bytes(open_session(model.read("model.onnx")).run(np.zeros((1, 3, 64, 64), np.float32))[0])


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_unused_rows_may_have_any_value(layout: str, value: float) -> None:
    """Padding rows, and rows below the least confidence."""
    plain = _found(fixed(facts_of("detect", samples.NAMES, layout=layout), LAYOUTS[layout]()))
    output = LAYOUTS[layout]()
    if layout == "end-to-end":
        output = np.concatenate([output, np.full((1, 2, 6), value, np.float32)], axis=1)
        output[0, -2:, 4] = 0
    else:
        rows = output[0].T if layout == "anchors" else output[0]
        rows[1, :4] = value
    assert _found(fixed(facts_of("detect", samples.NAMES, layout=layout), output)) == plain


def test_a_logit_of_minus_infinity_has_probability_0() -> None:
    """Class masks set logits to minus infinity."""
    confidences = {one["class"]: one["confidence"] for one in _found(_end(1, -np.inf, 2))}
    assert confidences["dog"] == 0
    assert confidences["traffic light"] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    logits = np.zeros((1, 3, 8, 8))
    logits[0, 0], logits[0, 2, :, :4] = -np.inf, 5
    model = fixed(facts_of("segment", samples.NAMES, layout="semantic"), logits)
    assert {one["class"] for one in _found(model)} == {"dog", "traffic light"}


@pytest.mark.parametrize("kind", ["classes", "boxes", "masks", "picture"])
def test_a_network_that_fails_on_some_images_works_on_others(kind: str) -> None:
    """Its values overflow 32 bits if an image is bright."""
    from onnx import TensorProto, helper, numpy_helper

    outputs = {
        "classes": np.ones((1, 3)),
        "boxes": samples.anchors(),
        "masks": np.ones((1, 3, 16, 16)),
        "picture": np.ones((1, 3, 64, 64)),
    }
    facts = {
        "classes": facts_of("classify", samples.NAMES, layout="logits"),
        "boxes": facts_of("detect", samples.NAMES, layout="anchors"),
        "masks": facts_of("segment", samples.NAMES, layout="semantic"),
        "picture": facts_of("image", (), **_PICTURED),
    }
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    told = helper.make_tensor_value_info("out", TensorProto.FLOAT, outputs[kind].shape)
    constants = [
        numpy_helper.from_array(outputs[kind].astype(np.float32), "answer"),
        numpy_helper.from_array(np.float32(150), "times"),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "times"], ["steep"]),
        helper.make_node("Exp", ["steep"], ["grown"]),
        helper.make_node("Sub", ["grown", "grown"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "graph", [given], [told], constants)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = MemoryModel(data.SerializeToString(), facts[kind])
    context = Context(models={model.key: model})
    dark, bright = (encode(Image.new("RGB", (64, 64), (level,) * 3), "PNG") for level in (40, 255))
    assert engine.run(Recipe.single("onnx", weights=model.key), dark, context).files
    with pytest.raises(ModelFault, match="not finite"):
        engine.run(Recipe.single("onnx", weights=model.key), bright, context)
