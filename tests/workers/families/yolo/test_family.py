"""YOLO models find the same in ONNX as in Ultralytics with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.families.models import MemoryModel, build, export, facts_of, fixed
from tests.workers.media.samples import draw, encode
from tests.workers.vision.test_masks import decode_rle
from workers import engine, registry
from workers.bundle import FolderModel, write
from workers.cache import Cache
from workers.checkpoints.open import open_upload
from workers.inference.sessions import open_session
from workers.media.picture import Picture
from workers.plugin import Context, Model
from workers.recipe import Recipe
from workers.vision.detect import Detector, choose_place
from workers.vision.letterbox import fill_cropped

SIDE = 128
NAMES = ("cat", "dog", "bird")
# Not twice as large as the input: it is handed to OpenCV as it is, by us and by Ultralytics.
WIDTH, HEIGHT = 200, 120
PICTURE = encode(draw(WIDTH, HEIGHT, seed=4), "PNG")
ZOO = {
    "detect": "yolo11n",
    "segment": "yolo11n-seg",
    "pose": "yolo11n-pose",
    "obb": "yolo11n-obb",
    "end-to-end": "yolov10n",
}
# What it is shown: a square by an ONNX for that alone, and by what we convert the rectangle that it needs.
SHOWN = ("square", "rectangle")
# Fewer detections have this confidence than the maximum. Of two with equal confidence, either may come.
CONFIDENCE = 0.55


@pytest.fixture(scope="module", params=[(task, shown) for task in ZOO for shown in SHOWN], ids="-".join)
def network(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, Any, Any, Model]:
    """A task, the input that Ultralytics makes, its output for that, and the model as we run it."""
    kind, shown = request.param
    task = "detect" if kind == "end-to-end" else kind
    built = build(ZOO[kind], task, len(NAMES), end_to_end=kind == "end-to-end")
    pixels, predicted = _forward(built, is_square=shown == "square")
    if shown == "rectangle":
        return task, pixels, predicted, _convert(built, task, tmp_path_factory.mktemp("model"))
    more = {"pose": {"keypoints": [17, 3]}, "end-to-end": {"layout": "end-to-end"}}.get(kind, {})
    return task, pixels, predicted, MemoryModel(export(built, SIDE), facts_of(task, NAMES, SIDE, **more))


def _forward(built: Any, *, is_square: bool = False) -> tuple[Any, Any]:
    """As Ultralytics' predictor does it, with a checkpoint or with a graph for one size."""
    import torch
    from ultralytics.data.augment import LetterBox

    image = np.asarray(draw(WIDTH, HEIGHT, seed=4))
    fitted = LetterBox((SIDE, SIDE), auto=not is_square, stride=32)(image=image)
    pixels = torch.from_numpy(np.ascontiguousarray(fitted.transpose(2, 0, 1))[None]).float() / 255
    assert pixels.shape[2:] == (SIDE if is_square else 96, SIDE)
    with torch.no_grad():
        return pixels, built(pixels)


def _convert(built: Any, task: str, folder: Path) -> FolderModel:
    """Saved by Ultralytics, read as inert data, rebuilt, exported."""
    import torch

    built.names = dict(enumerate(NAMES))
    built.args = {"imgsz": SIDE, "task": task}
    torch.save({"model": built, "train_args": built.args}, folder / "best.pt")
    upload = open_upload(folder / "best.pt")
    family = registry.get("yolo")
    assert family.recognize(upload) is not None
    (folder / "out").mkdir()
    write(family.convert(upload), folder / "out")
    return FolderModel(folder / "out")


def _reference(task: str, pixels: Any, predicted: Any, model: Model) -> Any:
    """What Ultralytics' predictors do after the forward pass: rows of box, confidence, class and the rest."""
    from ultralytics.utils import ops
    from ultralytics.utils.nms import non_max_suppression

    first = predicted[0][0] if task == "segment" else predicted[0]
    rows = non_max_suppression(
        first,
        CONFIDENCE,
        0.7,
        max_det=300,
        nc=len(NAMES),
        rotated=task == "obb",
        end2end=model.facts.get("layout") == "end-to-end",
    )[0]
    rows[:, :4] = ops.scale_boxes(pixels.shape[2:], rows[:, :4], (HEIGHT, WIDTH), xywh=task == "obb")
    return rows


def _of(task: str) -> Any:
    return pytest.mark.parametrize("network", [(task, shown) for shown in SHOWN], indirect=True, ids="-".join)


def _run(
    model: Model, memo: Cache | None = None, data: bytes = PICTURE, **settings: Any
) -> engine.RecipeResult:
    context = Context(models={model.key: model}, memo=memo)
    return engine.run(Recipe.single("yolo", settings, weights=model.key), data, context)


def _predictions(outcome: engine.RecipeResult) -> list[dict[str, Any]]:
    assert isinstance(outcome.data, dict)
    return outcome.data["predictions"]


def test_the_picture_is_shown_as_ultralytics_shows_it(network: tuple[str, Any, Any, Model]) -> None:
    _task, pixels, _predicted, model = network
    picture = Picture.open(PICTURE)
    session = open_session(model.read("model.onnx"))
    place = choose_place(picture, session, Detector.of(model.facts), 0)
    assert np.array_equal(place.fill(picture), pixels.numpy())


def test_the_same_is_found(network: tuple[str, Any, Any, Model]) -> None:
    task, pixels, predicted, model = network
    rows = _reference(task, pixels, predicted, model)
    found = _predictions(_run(model, result="data", confidence=CONFIDENCE))
    assert len(rows) > 2
    if task != "segment":
        assert len(found) == len(rows)
    _check_found(found, rows, task)


def _check_found(found: list[dict[str, Any]], rows: Any, task: str) -> None:
    theirs = _table(rows.numpy(), task)
    for told in found:
        ours = [told[name] for name in ("x", "y", "width", "height", "confidence", "class_id")]
        assert np.abs(theirs - ours).max(axis=1).min() < 0.05, told
        assert told["class"] == NAMES[told["class_id"]]


def _table(rows: np.ndarray, task: str) -> np.ndarray:
    """Center, width, height, confidence, class; oriented boxes with an angle between 0 and π/2."""
    if task != "obb":
        centers, sides = (rows[:, :2] + rows[:, 2:4]) / 2, rows[:, 2:4] - rows[:, :2]
        return np.hstack([centers, sides, rows[:, 4:6]])
    swapped = rows[:, -1] % np.pi >= np.pi / 2
    sides = np.where(swapped[:, None], rows[:, 3:1:-1], rows[:, 2:4])
    return np.hstack([rows[:, :2], sides, rows[:, 4:6]])


@_of("segment")
def test_segments_are_where_ultralytics_sees_them(network: tuple[str, Any, Any, Model]) -> None:
    from ultralytics.utils.ops import process_mask_native

    task, pixels, predicted, model = network
    rows = _reference(task, pixels, predicted, model)
    masks = process_mask_native(predicted[0][1][0], rows[:, 6:], rows[:, :4], (HEIGHT, WIDTH)).numpy()
    theirs = [mask for mask in masks if mask.any()]
    found = _predictions(_run(model, result="data", confidence=CONFIDENCE))
    assert len(found) == len(theirs) > 2
    overlaps = []
    for told, mask in zip(found, theirs, strict=True):
        bits = decode_rle(told["rle"])
        overlaps.append((bits & (mask > 0)).sum() / (bits | (mask > 0)).sum())
        assert all(0 <= point["x"] <= WIDTH and 0 <= point["y"] <= HEIGHT for point in told["points"])
    assert np.median(overlaps) > 0.95


@_of("pose")
def test_keypoints_are_where_ultralytics_sees_them(network: tuple[str, Any, Any, Model]) -> None:
    from ultralytics.utils.ops import scale_coords

    task, pixels, predicted, model = network
    rows = _reference(task, pixels, predicted, model)
    theirs = scale_coords(pixels.shape[2:], rows[:, 6:].view(-1, 17, 3), (HEIGHT, WIDTH)).numpy()
    found = _predictions(_run(model, result="data", confidence=CONFIDENCE))
    assert len(found) == len(theirs)
    for told in found:
        ours = [[point["x"], point["y"], point["confidence"]] for point in told["keypoints"]]
        assert [point["class_id"] for point in told["keypoints"]] == list(range(17))
        assert _nearest(theirs, np.array(ours)) < 0.05


@_of("obb")
def test_corners_are_where_ultralytics_sees_them(network: tuple[str, Any, Any, Model]) -> None:
    from ultralytics.utils.ops import xywhr2xyxyxyxy

    task, pixels, predicted, model = network
    rows = _reference(task, pixels, predicted, model).numpy()
    theirs = xywhr2xyxyxyxy(np.hstack([rows[:, :4], rows[:, -1:]]))
    found = _predictions(_run(model, result="data", confidence=CONFIDENCE))
    assert len(found) == len(theirs)
    for told in found:
        ours = np.array([[point["x"], point["y"]] for point in told["points"]])
        # In which order its corners are named is no matter.
        apart = np.abs(theirs[:, None] - ours[None, :, None]).max(axis=3).min(axis=2).max(axis=1)
        assert apart.min() < 0.05
        assert 0 <= told["angle"] < np.pi / 2


def _nearest(theirs: np.ndarray, ours: np.ndarray) -> float:
    """How far the points of one thing lie at most from those of the thing that is nearest.

    Things that Ultralytics is all but equally sure of may come in another order.
    """
    return float(np.abs(theirs - ours).max(axis=(1, 2)).min())


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
    assert data["image"] == {"width": WIDTH, "height": HEIGHT}


@pytest.mark.parametrize("network", [("detect", "square")], indirect=True)
def test_a_model_is_loaded_once_for_many_pictures(network: tuple[str, Any, Any, MemoryModel]) -> None:
    model, memo = network[3], Cache()
    before = model.reads
    for _ in range(3):
        _run(model, memo, result="data")
    assert model.reads == before + 1
    assert memo.used_bytes > len(model.read("model.onnx"))


def test_networks_that_see_gray_are_shown_gray() -> None:
    facts = facts_of("detect", NAMES, SIDE)
    facts["input"]["channels"] = 1
    rows = np.zeros((1, 7, 4), np.float32)
    rows[0, :, 0] = (32, 32, 20, 10, 0.1, 0.9, 0.2)
    model = fixed(facts, rows)
    assert [one["class"] for one in _predictions(_run(model))] == ["dog"]


@pytest.mark.parametrize(("name", "task"), [("yolo26n", "detect"), ("yolov8n-seg", "segment")])
def test_other_generations_go_the_whole_way(name: str, task: str, tmp_path: Path) -> None:
    built = build(name, task, len(NAMES), end_to_end=name == "yolo26n")
    pixels, predicted = _forward(built)
    model = _convert(built, task, tmp_path)
    found = _predictions(_run(model, result="data", confidence=CONFIDENCE))
    assert len(found) > 2
    _check_found(found, _reference(task, pixels, predicted, model), task)


# --- The shape of what a model is shown.


@pytest.mark.parametrize(
    ("size", "more", "working_size", "shown"),
    [
        ("dynamic", {"rectangles": True, "stride": 32}, 0, (480, 640)),
        ("dynamic", {"rectangles": True, "stride": 64}, 0, (512, 640)),
        ("dynamic", {"rectangles": True, "stride": 32}, 320, (256, 320)),
        # Sizes that are no multiple of the stride would not fit.
        ("dynamic", {"rectangles": True, "stride": 64}, 160, (192, 192)),
        ("dynamic", {"rectangles": False, "stride": 32}, 0, (640, 640)),
        # Models that were converted before there were rectangles.
        ("dynamic", {"stride": 32}, 0, (640, 640)),
        (640, {"stride": 32}, 0, (640, 640)),
    ],
)
def test_the_input_has_the_shape_of_the_picture(
    size: int | str, more: dict[str, Any], working_size: int, shown: tuple[int, int]
) -> None:
    facts = facts_of("detect", NAMES, 640, layout="anchors", **more)
    session = open_session(fixed(facts, np.zeros((1, 7, 4)), size=size).read("model.onnx"))
    picture = Picture.open(encode(draw(400, 300), "PNG"))
    pixels = choose_place(picture, session, Detector.of(facts), working_size).fill(picture)
    assert pixels.shape == (1, 3, *shown)
    assert len(session.run(pixels)) == 1
