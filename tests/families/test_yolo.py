"""YOLO networks with random weights, run by us from ONNX and by Ultralytics from torch: the same is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.families.models import MemoryModel, build, export, facts_of, fixed
from tests.families.test_masks import decode_rle
from tests.workers.samples import draw, encode
from workers import engine, registry
from workers.cache import Cache
from workers.letterbox import Letterbox, fill_cropped
from workers.picture import Picture
from workers.plugin import Context, Model
from workers.recipe import Recipe
from workers.weights.bundle import FolderModel, write
from workers.weights.opening import open_upload

SIDE = 64
NAMES = ("cat", "dog", "bird")
PICTURE = encode(draw(200, 150, seed=4), "PNG")
ZOO = {
    "detect": ("yolo11n", {}),
    "segment": ("yolo11n-seg", {}),
    "pose": ("yolo11n-pose", {"keypoints": [17, 3]}),
    "obb": ("yolo11n-obb", {}),
    "end-to-end": ("yolov10n", {"layout": "end-to-end"}),
}


@pytest.fixture(scope="module", params=list(ZOO))
def network(request: pytest.FixtureRequest) -> tuple[str, Any, MemoryModel]:
    """A task, Ultralytics' own output for the picture, and the model as we run it."""
    name, more = ZOO[request.param]
    task = "detect" if request.param == "end-to-end" else request.param
    built = build(name, task, len(NAMES), end_to_end="layout" in more)
    return task, _forward(built), MemoryModel(export(built, SIDE), facts_of(task, NAMES, SIDE, **more))


def _forward(built: Any) -> Any:
    import torch

    place = Letterbox.fit((200, 150), (SIDE, SIDE))
    with torch.no_grad():
        return built(torch.from_numpy(place.fill(Picture.open(PICTURE))))


def _reference(task: str, predicted: Any, model: Model) -> np.ndarray:
    """What Ultralytics' predictors do after the forward pass: rows of box, confidence, class and the rest."""
    from ultralytics.utils import ops
    from ultralytics.utils.nms import non_max_suppression

    first = predicted[0][0] if task == "segment" else predicted[0]
    rows = non_max_suppression(
        first,
        0.25,
        0.7,
        max_det=300,
        nc=len(NAMES),
        rotated=task == "obb",
        end2end=model.facts.get("layout") == "end-to-end",
    )[0]
    rows[:, :4] = ops.scale_boxes((SIDE, SIDE), rows[:, :4], (150, 200), xywh=task == "obb")
    return rows


def _run(model: Model, memo: Cache | None = None, data: bytes = PICTURE, **settings: Any) -> engine.Outcome:
    context = Context(models={model.key: model}, memo=memo)
    return engine.run(Recipe.single("yolo", settings, weights=model.key), data, context)


def _predictions(outcome: engine.Outcome) -> list[dict[str, Any]]:
    assert isinstance(outcome.data, dict)
    return outcome.data["predictions"]


def test_the_same_is_found(network: tuple[str, Any, MemoryModel]) -> None:
    task, predicted, model = network
    rows = _reference(task, predicted, model)
    found = _predictions(_run(model, result="data"))
    assert len(rows) > 2
    if task != "segment":
        assert len(found) == len(rows)
    theirs = _table(rows.numpy(), task)
    for told in found:
        ours = [told[name] for name in ("x", "y", "width", "height", "confidence", "class_id")]
        assert np.abs(theirs - ours).max(axis=1).min() < 0.05, told
        assert told["class"] == NAMES[told["class_id"]]


def _table(rows: np.ndarray, task: str) -> np.ndarray:
    """Centre, width, height, confidence, class; turned boxes with an angle between 0 and π/2."""
    if task != "obb":
        centres, sides = (rows[:, :2] + rows[:, 2:4]) / 2, rows[:, 2:4] - rows[:, :2]
        return np.hstack([centres, sides, rows[:, 4:6]])
    swapped = rows[:, -1] % np.pi >= np.pi / 2
    sides = np.where(swapped[:, None], rows[:, 3:1:-1], rows[:, 2:4])
    return np.hstack([rows[:, :2], sides, rows[:, 4:6]])


@pytest.mark.parametrize("network", ["segment"], indirect=True)
def test_segments_are_where_ultralytics_sees_them(network: tuple[str, Any, MemoryModel]) -> None:
    from ultralytics.utils.ops import process_mask_native

    task, predicted, model = network
    rows = _reference(task, predicted, model)
    masks = process_mask_native(predicted[0][1][0], rows[:, 6:], rows[:, :4], (150, 200)).numpy()
    theirs = [mask for mask in masks if mask.any()]
    found = _predictions(_run(model, result="data"))
    assert len(found) == len(theirs) > 2
    overlaps = []
    for told, mask in zip(found, theirs, strict=True):
        bits = decode_rle(told["rle"])
        overlaps.append((bits & (mask > 0)).sum() / (bits | (mask > 0)).sum())
        assert all(0 <= point["x"] <= 200 and 0 <= point["y"] <= 150 for point in told["points"])
    assert np.median(overlaps) > 0.95


@pytest.mark.parametrize("network", ["pose"], indirect=True)
def test_keypoints_are_where_ultralytics_sees_them(network: tuple[str, Any, MemoryModel]) -> None:
    from ultralytics.utils.ops import scale_coords

    task, predicted, model = network
    rows = _reference(task, predicted, model)
    theirs = scale_coords((SIDE, SIDE), rows[:, 6:].view(-1, 17, 3), (150, 200)).numpy()
    found = _predictions(_run(model, result="data"))
    for told, points in zip(found, theirs, strict=True):
        ours = [[point["x"], point["y"], point["confidence"]] for point in told["keypoints"]]
        assert [point["class_id"] for point in told["keypoints"]] == list(range(17))
        assert np.allclose(ours, points, atol=0.05)


@pytest.mark.parametrize("network", ["obb"], indirect=True)
def test_corners_are_where_ultralytics_sees_them(network: tuple[str, Any, MemoryModel]) -> None:
    from ultralytics.utils.ops import xywhr2xyxyxyxy

    task, predicted, model = network
    rows = _reference(task, predicted, model).numpy()
    theirs = xywhr2xyxyxyxy(np.hstack([rows[:, :4], rows[:, -1:]]))
    found = _predictions(_run(model, result="data"))
    for told, corners in zip(found, theirs, strict=True):
        ours = np.array([[point["x"], point["y"]] for point in told["points"]])
        apart = np.abs(ours[:, None] - corners[None]).max(axis=2).min(axis=1)
        assert apart.max() < 0.05
        assert 0 <= told["angle"] < np.pi / 2


def test_a_classifier_says_what_ultralytics_does() -> None:
    import torch

    built = build("yolo11n-cls", "classify", len(NAMES))
    with torch.no_grad():
        theirs = built(torch.from_numpy(fill_cropped(Picture.open(PICTURE), SIDE)))[0][0].numpy()
    model = MemoryModel(export(built, SIDE), facts_of("classify", NAMES, SIDE))
    data = _run(model).data
    assert isinstance(data, dict)
    told = data["predictions"]
    assert [one["class_id"] for one in told] == np.argsort(-theirs).tolist()
    assert np.allclose([one["confidence"] for one in told], np.sort(theirs)[::-1], atol=1e-4)
    assert (data["top"], data["confidence"]) == (told[0]["class"], told[0]["confidence"])
    assert data["image"] == {"width": 200, "height": 150}


@pytest.mark.parametrize("network", ["detect"], indirect=True)
def test_a_model_is_loaded_once_for_many_pictures(network: tuple[str, Any, MemoryModel]) -> None:
    model, memo = network[2], Cache()
    before = model.reads
    for _ in range(3):
        _run(model, memo, result="data")
    assert model.reads == before + 1
    assert memo.used_bytes > len(model.read("model.onnx"))


def test_networks_that_see_grey_are_shown_grey() -> None:
    facts = facts_of("detect", NAMES, SIDE)
    facts["input"]["channels"] = 1
    rows = np.zeros((1, 7, 4), np.float32)
    rows[0, :, 0] = (32, 32, 20, 10, 0.1, 0.9, 0.2)
    model = fixed(facts, rows)
    assert [one["class"] for one in _predictions(_run(model))] == ["dog"]


@pytest.mark.parametrize(("name", "task"), [("yolo26n", "detect"), ("yolov8n-seg", "segment")])
def test_a_checkpoint_goes_the_whole_way(name: str, task: str, tmp_path: Path) -> None:
    """Saved by Ultralytics, read as inert data, rebuilt, exported, run: what Ultralytics finds is found."""
    import torch

    built = build(name, task, len(NAMES), end_to_end=name == "yolo26n")
    built.names = dict(enumerate(NAMES))
    built.args = {"imgsz": SIDE, "task": task}
    predicted = _forward(built)
    torch.save({"model": built, "train_args": built.args}, tmp_path / "best.pt")
    upload = open_upload(tmp_path / "best.pt")
    family = registry.get("yolo")
    assert family.recognise(upload) is not None
    (tmp_path / "out").mkdir()
    write(family.convert(upload), tmp_path / "out")
    model = FolderModel(tmp_path / "out")
    rows = _reference(task, predicted, model)
    found = _predictions(_run(model, result="data"))
    assert len(found) > 2
    theirs = _table(rows.numpy(), task)
    for told in found:
        ours = [told[field] for field in ("x", "y", "width", "height", "confidence", "class_id")]
        assert np.abs(theirs - ours).max(axis=1).min() < 0.1, told
