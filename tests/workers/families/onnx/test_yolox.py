"""YOLOX, and other detectors whose rows resemble those of YOLO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.onnx.test_family import convert, found, giving, with_metadata
from tests.workers.families.onnx.test_labels import run_plainly, trace
from tests.workers.media.samples import draw, encode
from workers.checkpoints.upload import Refused
from workers.sandbox import run
from workers.vision import yolox

SIDE = 416


class Cells(nn.Module):
    """YOLOX's head: offsets, log sizes, objectness and classes of each cell, over all grids."""

    def __init__(self, classes: int, strides: tuple[int, ...] = (8, 16, 32), wild: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.grids = nn.ModuleList(nn.Conv2d(3, 5 + classes, stride, stride) for stride in strides)
        for grid in self.grids:
            grid.weight.data *= wild
            grid.bias.data[:4] = torch.tensor([0.5, 0.5, 1.0, 1.2])

    def forward(self, x: Any) -> Any:
        made = [grid(x / 255) for grid in self.grids]
        told = [torch.cat([one[:, :4], one[:, 4:].sigmoid()], 1).flatten(2) for one in made]
        return torch.cat(told, 2).permute(0, 2, 1)


def decode_plainly(rows: np.ndarray, width: int, height: int, strides: tuple[int, ...]) -> np.ndarray:
    """As demo_utils.py of YOLOX decodes its outputs."""
    grids, steps = [], []
    for stride in strides:
        xv, yv = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        grid = np.stack((xv, yv), 2).reshape(1, -1, 2)
        grids.append(grid)
        steps.append(np.full((*grid.shape[:2], 1), stride))
    rows = rows.astype(np.float64)
    rows[..., :2] = (rows[..., :2] + np.concatenate(grids, 1)) * np.concatenate(steps, 1)
    rows[..., 2:4] = np.exp(rows[..., 2:4]) * np.concatenate(steps, 1)
    return rows[0]


def shown(image: Image.Image, side: int) -> tuple[np.ndarray, float]:
    """The image in the corner of gray, blue first, 0 to 255, as `preproc` of YOLOX makes it."""
    ratio = min(side / image.width, side / image.height)
    small = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR)
    padded = np.full((side, side, 3), 114, np.float32)
    padded[: small.height, : small.width] = np.asarray(small)[..., ::-1]
    return padded.transpose(2, 0, 1)[None], ratio


@pytest.mark.parametrize(
    ("classes", "side", "strides"),
    [
        (1, 416, (8, 16, 32)),
        (1, 640, (8, 16, 32)),
        (3, 416, (8, 16, 32)),
        (80, 640, (8, 16, 32)),
        (2, 256, yolox.STRIDES[1]),
    ],
)
def test_its_boxes_are_decoded(classes: int, side: int, strides: tuple[int, ...], tmp_path: Path) -> None:
    onnx = trace(Cells(classes, strides), 1, 3, side, side)
    model = convert(onnx, tmp_path)
    assert (model.facts["task"], model.facts["layout"]) == ("detect", "yolox")
    assert len(model.facts["classes"]) == classes
    image = draw(200, 150, seed=4)
    pixels, ratio = shown(image, side)
    rows = decode_plainly(run_plainly(onnx, pixels), side, side, strides)
    scores = rows[:, 4:5] * rows[:, 5:]
    best = scores.max(1)
    told = found(model, confidence=0.01, iou=0.95, max_detections=5)
    assert told
    first = int(best.argmax())
    x, y, width, height = rows[first, :4] / ratio
    left, right = max(0, x - width / 2), min(200, x + width / 2)
    top, bottom = max(0, y - height / 2), min(150, y + height / 2)
    assert told[0]["confidence"] == pytest.approx(best[first], abs=0.01)
    wanted = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    # The same cell has the highest confidence, unless two are almost equal.
    if np.sort(best)[-2] < best[first] - 0.01:
        assert [told[0][name] for name in ("x", "y", "width", "height")] == pytest.approx(wanted, abs=1.5)


class Finds(nn.Module):
    """Finds red things: cells of 8 pixels whose blue input channel, the third, is bright."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Any:
        told = []
        for stride in (8, 16, 32):
            mean = nn.functional.avg_pool2d(x, stride) * self.weight
            red = ((mean[:, 2:] > 200) & (mean[:, :1] < 60)).float() * (1.0 if stride == 8 else 0.0)
            half = 0 * red + 0.5
            told.append(torch.cat([half, half, 0 * red, 0 * red, red * 0.9, red], 1).flatten(2))
        return torch.cat(told, 2).permute(0, 2, 1)


def test_it_sees_blue_first_in_bytes_and_the_image_in_the_corner(tmp_path: Path) -> None:
    model = convert(trace(Finds(256), 1, 3, 256, 256), tmp_path, {"layout": "yolox", "names": ["red"]})
    image = Image.new("RGB", (256, 128))
    image.paste((255, 0, 0), (80, 48, 88, 56))
    image.paste((0, 0, 255), (160, 48, 168, 56))
    (told,) = found(model, data=encode(image, "PNG"))
    assert [told[name] for name in ("x", "y", "width", "height")] == [84, 52, 8, 8]
    assert (told["class"], told["confidence"]) == ("red", pytest.approx(0.9))


def test_an_older_one_sees_red_first_as_its_config_says(tmp_path: Path) -> None:
    said = {"layout": "yolox", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    onnx = trace(Cells(2), 1, 3, 256, 256)
    model = convert(onnx, tmp_path, said)
    import onnxruntime

    noise = np.random.default_rng(1).random((1, 3, 256, 256), np.float32)
    session = onnxruntime.InferenceSession(model.read("model.onnx"), providers=["CPUExecutionProvider"])
    made = session.run(None, {session.get_inputs()[0].name: noise})[0]
    shape = (1, 3, 1, 1)
    pixels = (noise - np.reshape(said["mean"], shape)) / np.reshape(said["std"], shape)
    assert np.abs(made - run_plainly(onnx, pixels.astype(np.float32))).max() < 1e-5


def _decoded(classes: int, side: int) -> np.ndarray:
    """Rows as YOLOv6 and `--decode_in_inference` give them: as many as YOLOX has, in pixels."""
    random = np.random.default_rng(7)
    rows = []
    for stride in (8, 16, 32):
        y, x = np.mgrid[0 : side // stride, 0 : side // stride]
        centers = (np.stack([x.ravel(), y.ravel()], 1) + random.uniform(0, 1, (x.size, 2))) * stride
        sizes, scores = random.uniform(4, 90, (x.size, 2)), random.random((x.size, 1 + classes)) * 0.2
        rows.append(np.hstack([centers, sizes, scores]))
    return np.concatenate(rows)[None]


@pytest.mark.parametrize("classes", [1, 4])
def test_as_many_rows_that_are_sure_of_all_boxes_are_those_of_yolov6(classes: int, tmp_path: Path) -> None:
    rows = _decoded(classes, 64)
    rows[0, :, 4] = 1
    rows[0, 9, :4], rows[0, 9, 5] = (20, 30, 24, 20), 0.9
    model = convert(giving(rows), tmp_path)
    assert model.facts["layout"] == "yolov5"
    (told,) = found(model)
    # In the middle of the input, as YOLO has it.
    assert (told["width"], told["y"]) == (pytest.approx(75, abs=0.1), pytest.approx(22 / 48 * 150, abs=0.1))


@pytest.mark.parametrize("classes", [1, 4])
def test_boxes_that_the_graph_has_decoded(classes: int, tmp_path: Path) -> None:
    """As `--decode_in_inference` has it. They may be YOLOv5's, too: its owner chooses."""
    rows = _decoded(classes, 64)
    rows[0, 9, :6] = (20, 30, 24, 20, 0.95, 0.9)
    model = convert(giving(rows), tmp_path)
    assert model.facts["layout"] == "yolox-decoded"
    (told,) = found(model)
    # In the corner.
    assert (told["width"], told["y"]) == (pytest.approx(75, abs=0.1), pytest.approx(30 / 48 * 150, abs=0.1))
    (tmp_path / "graph.onnx").write_bytes(giving(rows))
    report = run.convert(tmp_path / "graph.onnx", tmp_path / "report", use_bubblewrap=False)
    ways = [(one["layout"], one["is_recognised"]) for one in report.choices if one["task"] == "detect"]
    assert (ways, report.is_certain) == ([("yolox-decoded", True), ("yolov5", False)], False)
    (tmp_path / "chosen").mkdir()
    assert convert(giving(rows), tmp_path / "chosen", {"layout": "yolov5"}).facts["layout"] == "yolov5"


def test_what_the_rows_are_not_cannot_be_said(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not boxes in pixels"):
        convert(giving(_decoded(3, 64)), tmp_path, {"layout": "yolox"})
    (tmp_path / "cells").mkdir()
    with pytest.raises(Refused, match="not boxes in pixels"):
        convert(trace(Cells(3), 1, 3, SIDE, SIDE), tmp_path / "cells", {"layout": "yolov5"})


@pytest.mark.parametrize("size", [(640, 384), (320, 608)])
def test_grids_over_rectangles(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    onnx = trace(Cells(2), 1, 3, height, width)
    model = convert(onnx, tmp_path)
    assert model.facts["layout"] == "yolox"
    assert found(model, confidence=0.01, data=encode(draw(width, height, seed=4), "PNG"))


def test_grids_of_any_size(tmp_path: Path) -> None:
    axes = {"images": {2: "height", 3: "width"}, "output": {1: "n"}}
    onnx = with_metadata(trace(Cells(2), 1, 3, 256, 256, dynamic_axes=axes), stride="32")
    model = convert(onnx, tmp_path, {"size": 256})
    assert (model.facts["layout"], model.facts["rectangles"]) == ("yolox", True)
    assert found(model, confidence=0.01)
    assert found(model, confidence=0.01, image_size=320)


# --- Others, which would find nothing or anything.


def _shares_of_the_picture(columns: int, rows: int = 300) -> np.ndarray:
    random = np.random.default_rng(3)
    return np.hstack([random.uniform(0.1, 0.9, (rows, 4)), random.random((rows, columns - 4)) * 0.3])[None]


def _nanodet() -> np.ndarray:
    random = np.random.default_rng(4)
    return np.hstack([random.random((2125, 80)) * 0.1, random.normal(0, 3, (2125, 32))])[None]


def _faces() -> np.ndarray:
    """YOLOv5-face: box, objectness, five landmarks in pixels, class."""
    random = np.random.default_rng(5)
    places = random.uniform(0, 64, (252, 4))
    return np.hstack(
        [places, random.random((252, 1)), random.uniform(0, 64, (252, 10)), random.random((252, 1))]
    )[None]


def _logits() -> np.ndarray:
    random = np.random.default_rng(6)
    return np.hstack([random.uniform(4, 60, (84, 4)), random.normal(-3, 3, (84, 6))])[None]


def _poses() -> np.ndarray:
    random = np.random.default_rng(7)
    return np.vstack(
        [random.uniform(0, 64, (4, 84)), random.random((1, 84)), random.uniform(0, 64, (51, 84))]
    )[None]


def _two_dimensions(columns: int) -> Callable[[], bytes]:
    def make() -> bytes:
        return with_nms(np.zeros((3, columns)))

    return make


def with_nms(rows: np.ndarray) -> bytes:
    """A graph that has an NMS in it, and gives these rows."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_model_from_string(giving(rows))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ones((1, 2, 4), np.float32), "boxes"))
    graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "scores"))
    graph.node.append(helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["kept"]))
    graph.node.append(helper.make_node("Cast", ["kept"], ["kept_floats"], to=TensorProto.FLOAT))
    return model.SerializeToString()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "RT-DETR": (lambda: giving(_shares_of_the_picture(84)), "in pixels.*fractions of the image, multiply"),
    "RT-DETR, two classes": (lambda: giving(_shares_of_the_picture(6)), "not boxes in pixels"),
    "shares in columns": (
        lambda: giving(_shares_of_the_picture(84, 8400).transpose(0, 2, 1)),
        "not boxes in pixels",
    ),
    "NanoDet": (lambda: giving(_nanodet()), "not confidences"),
    "landmarks": (lambda: giving(_faces()), "not confidences"),
    "logits": (lambda: giving(_logits()), "export the confidences after the sigmoid"),
    "poses": (lambda: giving(_poses()), "pose or oriented box models, set “task”"),
    "DETR": (lambda: giving(np.zeros((1, 100, 92)), np.zeros((1, 100, 4))), "scores and labels"),
    "YOLO-NAS": (lambda: giving(np.zeros((1, 84, 4)), np.zeros((1, 84, 80))), "scores and labels"),
    "PP-YOLOE": (lambda: giving(np.zeros((1, 84, 4)), np.zeros((1, 80, 84))), "scores and labels"),
    "YOLOv4": (lambda: giving(np.zeros((1, 84, 1, 4)), np.zeros((1, 84, 80))), "scores and labels"),
    "mmdet": (lambda: giving(np.zeros((1, 100, 5)), np.zeros((1, 100))), "scores and labels"),
    "RetinaFace": (
        lambda: giving(np.zeros((1, 84, 4)), np.zeros((1, 84, 2)), np.zeros((1, 84, 10))),
        "scores and labels",
    ),
    "raw grids": (
        lambda: giving(np.ones((1, 255, 8, 8)), np.ones((1, 255, 4, 4))),
        "raw detector maps without box decoding",
    ),
    "raw anchors": (
        lambda: giving(np.ones((1, 3, 8, 8, 85)), np.ones((1, 3, 4, 4, 85))),
        "raw detector maps without box decoding",
    ),
    "FastestDet": (lambda: giving(np.ones((1, 85, 4, 4))), "cells of 16 × 16 pixels"),
    "YOLOv7 with NMS": (_two_dimensions(7), "contains NonMaxSuppression"),
    "one row of it": (lambda: with_nms(np.zeros((1, 7))), "contains NonMaxSuppression"),
    "PP-YOLOE with NMS": (_two_dimensions(6), "contains NonMaxSuppression"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(REFUSED))
def test_other_detectors_are_refused_with_what_to_change(case: str, tmp_path: Path) -> None:
    onnx, sentence = REFUSED[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(onnx(), tmp_path)
    assert (caught.value.code, caught.value.message[-1]) == ("outputs", ".")
    assert "xport" in caught.value.message or "config.json" in caught.value.message


def test_turned_boxes_are_known_by_their_angles(tmp_path: Path) -> None:
    """An angle is no confidence: their last column lies outside of 0 to 1."""
    random = np.random.default_rng(8)
    rows = np.vstack(
        [random.uniform(4, 60, (4, 84)), random.random((2, 84)) * 0.2, random.uniform(-0.7, 2.3, (1, 84))]
    )
    rows[:, 5] = (32, 32, 20, 10, 0.9, 0.1, 0.5)
    model = convert(giving(rows[None]), tmp_path)
    assert (model.facts["task"], len(model.facts["classes"])) == ("obb", 2)
    assert found(model)[0]["angle"] == pytest.approx(0.5, abs=1e-4)


def test_the_ways_of_a_grid_are_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "cells.onnx").write_bytes(trace(Cells(1), 1, 3, SIDE, SIDE))
    report = run.convert(tmp_path / "cells.onnx", tmp_path / "out", use_bubblewrap=False)
    assert report.ok, report
    assert report.choices[0] == {"task": "detect", "layout": "yolox", "classes": 1, "is_recognised": True}
