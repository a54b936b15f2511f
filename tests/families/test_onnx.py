"""Uploaded ONNX graphs: their layout is told, they are taken as they are, and run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.families import samples
from tests.families.models import MemoryModel, build, export, facts_of, fixed
from tests.families.test_masks import decode_rle
from tests.workers.samples import decode, draw, encode
from workers import engine, registry
from workers.plugin import Context, OperationError
from workers.recipe import Recipe
from workers.weights.bundle import FolderModel, verify, write
from workers.weights.opening import open_upload
from workers.weights.upload import Refused

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
    assert family.recognise(upload) == "ONNX model"
    out = folder / "out"
    out.mkdir()
    write(family.convert(upload), out)
    verify(out)
    return FolderModel(out)


def run(model: Any, data: bytes = PICTURE, **settings: Any) -> engine.Outcome:
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
    onnx = export(build("yolo26n", "detect", 2, end_to_end=True), 64) if end else _fixed(rows)
    model = convert(onnx, tmp_path, {"names": ["cat", "dog"]})
    assert model.facts["layout"] == "end-to-end"


@pytest.mark.parametrize("config", [None, {"names": ["cat"]}])
def test_rows_of_yolov5_of_one_class_are_not_end_to_end(config: Any, tmp_path: Path) -> None:
    rows = np.delete(samples.yolov5(), [6, 7], axis=2)
    model = convert(_fixed(rows), tmp_path, config)
    assert (model.facts["layout"], len(model.facts["classes"])) == ("yolov5", 1)
    assert found(model)[0]["width"] == pytest.approx(75, abs=0.1)


def test_an_rt_detr_is_known_by_its_metadata(tmp_path: Path) -> None:
    """Whatever its rows look like: those of noise may show nothing."""
    onnx = with_metadata(_fixed(np.zeros((1, 300, 6))), task="detect", head="RTDETRDecoder")
    with pytest.raises(Refused, match="It is an RT-DETR"):
        convert(onnx, tmp_path)


def _centres(side: float, *, last: float = 0) -> np.ndarray:
    """Boxes as centre, width and height, a score and a class."""
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


def test_a_classifier_gets_imagenet_s_colours_and_shares_of_one(tmp_path: Path) -> None:
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
    with pytest.raises(OperationError, match="finds nothing"):
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
    # Of the grey around the picture it sees no more than the rectangle has: a row above and one below.
    dark = found(model, data=encode(picture, "PNG"), classes="dark", confidence=0.5, most=1000)
    assert len(dark) == 20 * (10 + 2) - 1


@pytest.mark.parametrize("size", [(1500, 1199), (3000, 20)])
def test_a_preview_tells_places_of_the_whole_picture(size: tuple[int, int], tmp_path: Path) -> None:
    model = _detector_for_any_size(tmp_path, stride="32", imgsz="[160, 160]")
    recipe = Recipe.single("onnx", {"classes": "dark", "confidence": 0.5, "most": 1000}, weights=model.key)
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


# --- What is refused.


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

    model = onnx.load_model_from_string(_fixed(np.zeros((1, 10))))
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    return model.SerializeToString()


def _without_batch() -> bytes:
    import onnx

    model = onnx.load_model_from_string(_fixed(np.zeros((5, 4)), np.zeros(5), np.zeros(5)))
    del model.graph.input[0].type.tensor_type.shape.dim[0]
    return model.SerializeToString()


def _fixed(*outputs: np.ndarray) -> bytes:
    return fixed(facts_of("detect", (), 64), *outputs).read("model.onnx")


REFUSED: dict[str, tuple[Any, dict[str, Any] | None, str]] = {
    "two inputs": (_two_inputs, None, "takes 2 inputs"),
    "NaN": (lambda: _fixed(np.full((1, 7, 84), np.nan)), None, "not finite"),
    "five axes": (lambda: _fixed(np.zeros((1, 2, 3, 4, 5))), None, "No known kind of model"),
    "a batch": (lambda: _fixed(np.zeros((8, 100))), None, "not that of one picture"),
    "too few names": (lambda: _fixed(np.zeros((1, 10))), {"names": ["a"]}, "10 classes, but 1 names"),
    "other names": (lambda: _fixed(np.zeros((1, 9, 84))), {"names": ["a"] * 9}, "not fit 9 classes"),
    "names with a gap": (lambda: _fixed(np.zeros((1, 2))), {"names": {"0": "a", "2": "b"}}, "without a gap"),
    "another task": (lambda: _fixed(np.zeros((1, 10))), {"task": "detect"}, "said to be for .*detect"),
    "no such task": (lambda: _fixed(np.zeros((1, 10))), {"task": "fly"}, "cannot be used: task"),
    "no deviation": (lambda: _fixed(np.zeros((1, 10))), {"std": [0]}, "cannot be used: std"),
    "no picture": (lambda: _fixed(np.zeros((1, 3, 50, 64))), {"task": "image"}, "no picture of its input"),
    "shares of the picture": (lambda: _fixed(_centres(1, last=16)), None, "no boxes in pixels"),
    "shares of one class": (lambda: _fixed(_centres(1, last=0.5)), None, "no boxes in pixels"),
    "centres": (lambda: _fixed(_centres(64, last=16)), None, "no boxes in pixels"),
    "centres of one class": (lambda: _fixed(_centres(64)), {"names": ["a"]}, "no boxes in pixels"),
    "centres all the same": (lambda: _fixed(_centres(64)), {"layout": "end-to-end"}, "no boxes in pixels"),
    "boxes apart": (lambda: _fixed(np.zeros((5, 4)), np.zeros(5), np.zeros(5)), None, "labels apart"),
    "a box apart": (lambda: _fixed(np.zeros((1, 4)), np.zeros(1), np.zeros(1)), None, "labels apart"),
    "scores first": (lambda: _fixed(np.zeros((1, 99, 7)), np.zeros((1, 99, 4))), None, "labels apart"),
    "a count first": (
        lambda: _fixed(np.zeros((1, 1)), np.zeros((1, 99, 4)), np.zeros((1, 99)), np.zeros((1, 99))),
        None,
        "labels apart",
    ),
    "in another file": (_in_another_file, None, "external_data=False"),
    "without a batch": (_without_batch, None, "torchvision’s kind are not taken"),
    "another layout": (lambda: _fixed(np.zeros((1, 7, 84))), {"layout": "end-to-end"}, "has not 6 columns"),
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
        assert said.startswith("Refused It needs more memory than a conversion may take")
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
from workers.weights.opening import open_upload
from workers.weights.upload import Refused
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
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True
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
    assert found(model, size=64)
    with pytest.raises(OperationError, match="64 × 64 pixels only"):
        run(model, size=96)
    assert found(samples.detector(size="dynamic"), size=96)
