"""ONNX models: recognition of the layout, conversion, and runs."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.families import samples
from tests.workers.families.models import build, export, facts_of, fixed
from tests.workers.media.samples import decode, draw, encode
from tests.workers.vision.test_masks import decode_rle
from workers import engine, registry
from workers.bundle import FolderModel, verify, write
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.plugin import Context, OperationError
from workers.recipe import Recipe

PICTURE = encode(draw(200, 150, seed=4), "PNG")


def convert(onnx: bytes, folder: Path, config: dict[str, Any] | None = None) -> FolderModel:
    """An upload's whole way, but for the sandbox."""
    (folder / "upload.onnx").write_bytes(onnx)
    said = None
    if config is not None:
        said = folder / "config.json"
        said.write_text(json.dumps(config))
    upload = open_upload(folder / "upload.onnx", said)
    family = registry.get("onnx")
    assert family.recognize(upload) == "ONNX model"
    out = folder / "out"
    out.mkdir()
    write(family.convert(upload), out)
    verify(out)
    return FolderModel(out)


def run(model: Any, data: bytes = PICTURE, **settings: Any) -> engine.RecipeResult:
    recipe = Recipe.single("onnx", settings, weights=model.key)
    return engine.run(recipe, data, Context(models={model.key: model}))


def found(model: Any, **settings: Any) -> list[dict[str, Any]]:
    data = run(model, **settings).data
    assert isinstance(data, dict)
    return data["predictions"]


def trace(
    module: Any, *sides: int, dynamic: bool = False, channels: int = 3, batch: int = 1, pixels: bool = True
) -> bytes:
    """A torch module as ONNX. `pixels`: its output has sides, too."""
    import torch

    target, free = io.BytesIO(), {2: "height", 3: "width"}
    axes = {"images": free, **({"output": free} if pixels else {})} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            torch.zeros(batch, channels, *sides),
            target,
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["output"],
            dynamic_axes=axes,
        )
    return target.getvalue()


def with_metadata(onnx: bytes, **said: str) -> bytes:
    import onnx as library

    model = library.load_model_from_string(onnx)
    library.helper.set_model_props(model, said)
    return model.SerializeToString()


def giving(*outputs: np.ndarray) -> bytes:
    return fixed(facts_of("detect", (), 64), *outputs).read("model.onnx")


# --- Detectors.


LAYOUTS = {"anchors": samples.anchors, "end-to-end": samples.end_to_end, "yolov5": samples.yolov5}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_each_layout_of_a_detector_is_told_and_read(layout: str, tmp_path: Path) -> None:
    graph = fixed(facts_of("detect", (), 64), LAYOUTS[layout]())
    model = convert(graph.read("model.onnx"), tmp_path, {"names": list(samples.NAMES)})
    assert (model.facts["task"], model.facts["layout"]) == ("detect", layout)
    assert model.facts["title"].startswith("ONNX detector (")
    assert model.facts["classes"] == list(samples.NAMES)
    assert model.facts["input"] == {"width": 64, "height": 64, "channels": 3}
    told = found(model, iou=0.5)
    assert [one["class"] for one in told[:3]] == ["cat", "dog", "traffic light"]
    assert len(told) == (4 if layout == "end-to-end" else 3)
    assert (told[0]["x"], told[0]["width"]) == pytest.approx((62.5, 75), abs=0.1)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_without_names_classes_have_numbers(layout: str, tmp_path: Path) -> None:
    rows = LAYOUTS[layout]()
    graph = fixed(facts_of("detect", (), 64), rows if layout != "anchors" else np.tile(rows, (1, 1, 3)))
    model = convert(graph.read("model.onnx"), tmp_path)
    if layout == "yolov5":
        # Nine rows of eight columns could be anything: there are more places than classes.
        assert model.facts["layout"] == "yolov5"
    assert [one["class"] for one in found(model, iou=0.5)[:2]] == (
        ["0", "1"] if layout == "end-to-end" else ["class 0", "class 1"]
    )


@pytest.mark.parametrize("end", [True, False])
def test_end_to_end_rows_are_taken_whatever_they_show(end: bool, tmp_path: Path) -> None:
    """With random weights, and where a list of boxes was filled up because noise shows nothing."""
    rows = np.zeros((1, 300, 6), np.float32)
    onnx = export(build("yolo26n", "detect", 2, end_to_end=True), 64) if end else giving(rows)
    model = convert(onnx, tmp_path, {"names": ["cat", "dog"]})
    assert model.facts["layout"] == "end-to-end"


@pytest.mark.parametrize("config", [None, {"names": ["cat"]}])
def test_rows_of_yolov5_of_one_class_are_not_end_to_end(config: Any, tmp_path: Path) -> None:
    rows = np.delete(samples.yolov5(), [6, 7], axis=2)
    model = convert(giving(rows), tmp_path, config)
    assert (model.facts["layout"], len(model.facts["classes"])) == ("yolov5", 1)
    assert found(model)[0]["width"] == pytest.approx(75, abs=0.1)


def test_an_rt_detr_is_known_by_its_metadata(tmp_path: Path) -> None:
    """Whatever its rows look like: those of noise may show nothing."""
    onnx = with_metadata(giving(np.zeros((1, 300, 6))), task="detect", head="RTDETRDecoder")
    with pytest.raises(Refused, match="RT-DETR models are not supported"):
        convert(onnx, tmp_path)


def centers(side: float, *, last: float = 0) -> np.ndarray:
    """Boxes as center, width and height, a score and a class."""
    random = np.random.default_rng(9)
    rows = np.hstack([random.uniform(0.3, 0.7, (300, 2)), random.uniform(0.05, 0.2, (300, 2))]) * side
    return np.hstack([rows, random.random((300, 1)), np.full((300, 1), last)])[None]


def test_an_export_of_ultralytics_says_all_of_itself(tmp_path: Path) -> None:
    onnx = with_metadata(
        export(build("yolo11n-pose", "pose", 2), 64),
        names="{0: 'cat', 1: 'dog'}",
        task="pose",
        kpt_shape="[17, 3]",
        stride="32",
        imgsz="[64, 64]",
    )
    model = convert(onnx, tmp_path)
    assert (model.facts["task"], model.facts["layout"], model.facts["keypoints"]) == (
        "pose",
        "anchors",
        [17, 3],
    )
    assert (model.facts["classes"], model.facts["stride"]) == (["cat", "dog"], 32)
    assert model.facts["parameters"] > 2_000_000
    assert model.facts["difference"] <= model.facts["tolerance"]
    assert model.read("model.onnx") == onnx
    told = found(model, confidence=0.3)
    assert told
    assert len(told[0]["keypoints"]) == 17


def test_instance_segmenters_are_known_by_their_prototypes(tmp_path: Path) -> None:
    graph = samples.segmenter().read("model.onnx")
    model = convert(graph, tmp_path, {"id2label": {"1": "dog", "0": "cat", "2": "tree"}})
    assert (model.facts["task"], model.facts["layout"]) == ("segment", "anchors")
    assert model.facts["classes"] == ["cat", "dog", "tree"]
    assert all(one["rle"]["size"] == [150, 200] and len(one["points"]) > 6 for one in found(model))


# --- Classifiers, segmenters and pictures.


def test_a_classifier_gets_imagenet_s_colors_and_shares_of_one(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    model = convert(trace(network, 32, 32), tmp_path)
    assert (model.facts["task"], model.facts["layout"]) == ("classify", "logits")
    assert model.facts["mean"] == [0.485, 0.456, 0.406]
    data = run(model).data
    assert isinstance(data, dict)
    assert sum(one["confidence"] for one in data["predictions"]) == pytest.approx(1, abs=1e-3)
    square = np.asarray(
        draw(200, 150, seed=4).resize((42, 32), Image.Resampling.BILINEAR).crop((5, 0, 37, 32))
    )
    shown = (square / 255 - model.facts["mean"]) / model.facts["std"]
    with torch.no_grad():
        logits = network(torch.from_numpy(shown.transpose(2, 0, 1)[None].astype(np.float32)))
    theirs = logits.softmax(1)[0].numpy()
    assert data["predictions"][0]["class_id"] == theirs.argmax()
    assert data["confidence"] == pytest.approx(theirs.max(), abs=0.01)


def _thirds(classes: int) -> np.ndarray:
    """Logits of three upright stripes, of the classes 0, 1 and the last."""
    logits = np.zeros((1, classes, 8, 12), np.float32)
    for third, class_id in enumerate((0, 1, classes - 1)):
        logits[0, class_id, :, 4 * third : 4 * third + 4] = 9
    return logits


def test_a_semantic_segmenter_tells_regions(tmp_path: Path) -> None:
    graph = fixed(facts_of("segment", (), 64), _thirds(4))
    names = ["background", "road", "sky", "tree"]
    model = convert(graph.read("model.onnx"), tmp_path, {"names": names})
    assert (model.facts["task"], model.facts["layout"]) == ("segment", "semantic")
    told = found(model)
    assert sorted(one["class"] for one in told) == ["road", "tree"]
    tree = next(one for one in told if one["class"] == "tree")
    assert (tree["x"], tree["width"]) == pytest.approx((200 * 5 / 6, 200 / 3), abs=4)
    assert (tree["y"], tree["height"]) == pytest.approx((75, 150), abs=1)
    assert decode_rle(tree["rle"]).mean() == pytest.approx(1 / 3, abs=0.03)
    assert [one["class"] for one in found(model, classes="ROAD")] == ["road"]
    drawn = decode(run(model).files[0].data)
    plain = decode(PICTURE)
    assert np.array_equal(np.asarray(drawn)[100, :60], np.asarray(plain)[100, :60])
    assert not np.array_equal(np.asarray(drawn)[100, 80:120], np.asarray(plain)[100, 80:120])


def test_one_channel_is_what_is_above_a_half(tmp_path: Path) -> None:
    logits = np.full((1, 1, 16, 16), -4, np.float32)
    logits[0, 0, 4:12, 8:] = 4
    model = convert(
        fixed(facts_of("segment", (), 64), logits).read("model.onnx"), tmp_path, {"names": ["crack"]}
    )
    (told,) = found(model)
    assert (told["class"], told["x"], told["y"]) == (
        "crack",
        pytest.approx(150, abs=5),
        pytest.approx(75, abs=4),
    )


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_picture_is_made_of_the_picture(scale: int, dynamic: bool, tmp_path: Path) -> None:
    import torch

    class Invert(torch.nn.Module):
        """White from black, by a convolution, with a Tanh as generators have it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
            self.conv.weight.data = -3 * torch.eye(3)[..., None, None]

        def forward(self, x: Any) -> Any:
            larger = torch.nn.functional.interpolate(x, scale_factor=float(scale), mode="nearest")
            return torch.tanh(self.conv(larger))

    model = convert(trace(Invert(), 64, 64, dynamic=dynamic), tmp_path)
    assert (model.facts["task"], model.facts["scale"]) == ("image", scale)
    assert model.facts["architecture"] == {"takes": "signed", "gives": "signed"}
    outcome = run(model)
    image = decode(outcome.files[0].data)
    assert image.size == (200 * scale, 150 * scale)
    assert outcome.data is None
    before = np.asarray(draw(200, 150, seed=4).resize((8, 6), Image.Resampling.BOX)).astype(float)
    after = np.asarray(image.resize((8, 6), Image.Resampling.BOX)).astype(float)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < -0.95
    # Here nothing has moved, which cannot be told of graphs like this one.
    assert registry.get("onnx").keeps(registry.validate("onnx", {}), model.facts) == "nothing"
    with pytest.raises(OperationError, match="returns an image, not detections"):
        run(model, result="blur")


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(450, 300), (7, 9), (64, 32)])
def test_a_graph_of_any_size_sees_a_picture_s_own_pixels(
    scale: int, size: tuple[int, int], tmp_path: Path
) -> None:
    """The result is what the network gives for the picture alone, none of whose pixels looks at others."""
    import torch

    class Larger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
            self.conv.weight.data = torch.eye(3).flip(0)[..., None, None]

        def forward(self, x: Any) -> Any:
            # Halves what it sees on its way, as most networks do.
            half = torch.nn.functional.pixel_unshuffle(x, 2)
            return torch.nn.functional.interpolate(
                self.conv(torch.nn.functional.pixel_shuffle(half, 2)), scale_factor=float(scale)
            )

    model = convert(trace(Larger(), 64, 64, dynamic=True), tmp_path)
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    made = np.asarray(decode(run(model, data=encode(Image.fromarray(noise), "PNG")).files[0].data))
    wanted = noise[..., ::-1].repeat(scale, axis=0).repeat(scale, axis=1)
    assert made.shape == wanted.shape
    assert np.array_equal(made, wanted)


# --- Any size.


def _detector_for_any_size(tmp_path: Path, *, is_of_a_square: bool = False, **said: str) -> FolderModel:
    """Tells light places of eight pixels from dark ones. `is_of_a_square`: as many rows as columns."""
    import torch

    class Bright(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            share = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8)
            side = share.shape[3]
            rows = side if is_of_a_square else share.shape[2]
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(side), indexing="ij")
            boxes = [8.0 * x + 4, 8.0 * y + 4, 0.0 * x + 8, 0.0 * x + 8]
            return torch.cat([torch.stack(boxes)[None], share, 1 - share], 1).flatten(2)

    traced = trace(Bright(), 64, 64, dynamic=True)
    return convert(with_metadata(traced, names="{0: 'light', 1: 'dark'}", task="detect", **said), tmp_path)


def test_a_detector_for_any_size_is_shown_the_shape_of_the_picture(tmp_path: Path) -> None:
    model = _detector_for_any_size(tmp_path, stride="32", imgsz="[160, 160]")
    assert (model.facts["rectangles"], model.facts["stride"]) == (True, 32)
    picture = Image.new("RGB", (160, 80), "black")
    picture.paste("white", (80, 40, 88, 48))
    (light,) = found(model, data=encode(picture, "PNG"), classes="light", confidence=0.9)
    assert (light["x"], light["y"], light["width"], light["height"]) == (84, 44, 8, 8)
    # Of the gray around the picture it sees no more than the rectangle has: a row above and one below.
    dark = found(model, data=encode(picture, "PNG"), classes="dark", confidence=0.5, max_detections=1000)
    assert len(dark) == 20 * (10 + 2) - 1


@pytest.mark.parametrize("size", [(1500, 1199), (3000, 20)])
def test_a_preview_tells_places_of_the_whole_picture(size: tuple[int, int], tmp_path: Path) -> None:
    model = _detector_for_any_size(tmp_path, stride="32", imgsz="[160, 160]")
    recipe = Recipe.single(
        "onnx", {"classes": "dark", "confidence": 0.5, "max_detections": 1000}, weights=model.key
    )
    picture = encode(Image.new("RGB", size), "PNG")
    data = engine.preview(recipe, picture, Context(models={model.key: model})).data
    assert isinstance(data, dict)
    assert data["image"] == {"width": size[0], "height": size[1]}
    lowest = max(one["y"] + one["height"] / 2 for one in data["predictions"])
    assert lowest == pytest.approx(size[1], abs=0.01)


@pytest.mark.parametrize("said", [{"stride": "32"}, {}])
def test_what_cannot_be_shown_rectangles_is_shown_squares(said: dict[str, str], tmp_path: Path) -> None:
    model = _detector_for_any_size(tmp_path, is_of_a_square=True, imgsz="[160, 160]", **said)
    assert not model.facts["rectangles"]
    assert found(model, classes="light", confidence=0.05)
