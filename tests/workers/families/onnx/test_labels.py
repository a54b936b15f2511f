"""ONNX segmenters with class numbers, or with one score per pixel."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.models import facts_of, fixed
from tests.workers.families.onnx.test_family import convert, found, giving, run
from tests.workers.media.samples import draw, encode
from tests.workers.vision.test_masks import decode_rle
from workers.checkpoints.upload import Refused
from workers.inference.errors import ModelFault

SIDE = 64
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PLAIN = {"mean": [0], "std": [1]}
# Of the input's size, so that nothing is resized on its way in.
IMAGE = draw(SIDE, SIDE, seed=4)
DATA = encode(IMAGE, "PNG")


class Tell(nn.Module):
    """Tells classes of pixels by their colors, in cells of `stride` pixels."""

    def __init__(self, end: Any, classes: int = 5, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.look = nn.Conv2d(3, classes, 3, padding=1, stride=stride)
        self.look.weight.data *= 4
        self.end = end

    def forward(self, x: Any) -> Any:
        return self.end(self.look(x))


class Last(nn.Module):
    """A network that takes and gives channels last, as TensorFlow does."""

    def __init__(self, inner: nn.Module, *, takes: bool = True) -> None:
        super().__init__()
        self.inner, self.takes = inner, takes

    def forward(self, x: Any) -> Any:
        made = self.inner(x.permute(0, 3, 1, 2) if self.takes else x)
        return made.permute(0, 2, 3, 1) if made.dim() == 4 else made


def trace(module: nn.Module, *shape: int, names: tuple[str, ...] = ("output",), **more: Any) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (more.pop("sample", torch.zeros(*(shape or (1, 3, SIDE, SIDE)))),),
            target,
            dynamo=False,
            opset_version=more.pop("opset", 17),
            input_names=["images"],
            output_names=list(names),
            **more,
        )
    return target.getvalue()


def run_plainly(onnx: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def shown(mean: Any = MEAN, std: Any = STD) -> np.ndarray:
    """The picture as a segmenter sees it, (1, 3, SIDE, SIDE)."""
    pixels = (np.asarray(IMAGE) / 255 - mean) / std
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def masks_of(model: Any, **settings: Any) -> dict[int, np.ndarray]:
    return {one["class_id"]: decode_rle(one["rle"]) for one in found(model, data=DATA, **settings)}


def enlarged(labels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(labels.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST))


ENDS: dict[str, Any] = {
    "int64": lambda x: x.argmax(1),
    "with a channel": lambda x: x.argmax(1, keepdim=True),
    "int32": lambda x: x.argmax(1).int(),
    "bytes": lambda x: x.argmax(1).to(torch.uint8),
    "floats": lambda x: x.argmax(1).float(),
    "floats with a channel": lambda x: x.argmax(1, keepdim=True).float(),
    "no batch": lambda x: x.argmax(1)[0],
    "no batch, floats": lambda x: x[0].argmax(0).float(),
    "of shares": lambda x: x.softmax(1).argmax(1),
    "of pixels": lambda x: x.permute(0, 2, 3, 1).argmax(-1),
    "enlarged": lambda x: nn.functional.interpolate(x.argmax(1, keepdim=True).float(), scale_factor=2.0),
}


@pytest.mark.parametrize("names", [(), ("a", "b", "c", "d", "e")])
@pytest.mark.parametrize("end", list(ENDS))
def test_labels_are_classes_of_pixels(end: str, names: tuple[str, ...], tmp_path: Path) -> None:
    onnx = trace(Tell(ENDS[end], stride=2 if end == "enlarged" else 1))
    model = convert(onnx, tmp_path, {"names": list(names)} if names else None)
    assert (model.facts["task"], model.facts["layout"]) == ("segment", "labels")
    assert model.facts["classes"] == list(names or (f"class {number}" for number in range(5)))
    wanted = enlarged(run_plainly(onnx, shown()).reshape(SIDE, SIDE))
    masks = masks_of(model)
    assert set(masks) == set(np.unique(wanted))
    assert len(masks) > 2
    for class_id, mask in masks.items():
        assert np.array_equal(mask, wanted == class_id)
    assert {one["confidence"] for one in found(model)} == {1}


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_labels_of_cells(scale: int, tmp_path: Path) -> None:
    onnx = trace(Tell(lambda x: x.argmax(1), stride=scale))
    model = convert(onnx, tmp_path)
    assert model.facts["layout"] == "labels"
    wanted = enlarged(run_plainly(onnx, shown())[0])
    assert all(np.array_equal(mask, wanted == class_id) for class_id, mask in masks_of(model).items())


def test_labels_whose_size_is_no_part_of_the_input(tmp_path: Path) -> None:
    """As DeepLab's of 513 pixels, which has 65 cells a side."""
    onnx = trace(Tell(lambda x: x.argmax(1), stride=8), 1, 3, 65, 65)
    assert run_plainly(onnx, np.zeros((1, 3, 65, 65), np.float32)).shape == (1, 9, 9)
    assert convert(onnx, tmp_path).facts["layout"] == "labels"


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("end", ["int64", "with a channel", "logits", "shares"])
def test_channels_last(end: str, takes: bool, tmp_path: Path) -> None:
    ends = {**ENDS, "logits": lambda x: x, "shares": lambda x: x.softmax(1)}
    onnx = trace(Last(Tell(ends[end]), takes=takes), *((1, SIDE, SIDE, 3) if takes else (1, 3, SIDE, SIDE)))
    model = convert(onnx, tmp_path)
    assert model.facts["layout"] == ("semantic" if end in ("logits", "shares") else "labels")
    assert len(model.facts["classes"]) == 5
    pixels = shown()
    told = run_plainly(onnx, pixels.transpose(0, 2, 3, 1) if takes else pixels)
    labels = told.argmax(-1) if end in ("logits", "shares") else told
    wanted = enlarged(labels.reshape(SIDE, SIDE))
    masks = masks_of(model, confidence=0.01)
    assert set(masks) == set(np.unique(wanted))
    assert all(np.array_equal(mask, wanted == class_id) for class_id, mask in masks.items())


def test_a_model_for_any_size_gives_labels_too(tmp_path: Path) -> None:
    axes = {"images": {2: "height", 3: "width"}, "output": {1: "height", 2: "width"}}
    model = convert(trace(Tell(lambda x: x.argmax(1)), dynamic_axes=axes), tmp_path, {"size": 96})
    assert (model.facts["layout"], len(model.facts["classes"])) == ("labels", 5)
    (size,) = {tuple(one["rle"]["size"]) for one in found(model)}
    assert size == (150, 200)


@pytest.mark.parametrize(
    ("labels", "config", "sentence"),
    [
        (
            np.full((1, 64, 64), 7),
            {"names": list("abcde")},
            "returns the class number 7, counted from 0, but has only 5 classes",
        ),
        (np.full((1, 64, 64), 300), None, "301 pixel classes. The limit is 255"),
    ],
)
def test_labels_that_fit_no_classes(labels: np.ndarray, config: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=sentence):
        convert(_whole(labels), tmp_path, config)


def _whole(labels: np.ndarray) -> bytes:
    """A graph that always gives these whole numbers."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(giving(labels))
    told = model.graph.output[0]
    model.graph.node.append(helper.make_node("Cast", [told.name], ["labels"], to=TensorProto.INT64))
    told.name, told.type.tensor_type.elem_type = "labels", TensorProto.INT64
    return model.SerializeToString()


def test_the_names_have_to_be_as_many_as_an_argmax_chooses_from(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"It has 5 classes, but .* has 6 names"):
        convert(trace(Tell(lambda x: x.argmax(1))), tmp_path, {"names": list("abcdef")})


def test_noise_may_show_two_of_many_classes(tmp_path: Path) -> None:
    labels = np.zeros((1, 1, 64, 64))
    labels[:, :, 32:] = 1
    model = convert(giving(labels), tmp_path, {"names": list("abc")})
    assert (model.facts["layout"], model.facts["classes"]) == ("labels", ["a", "b", "c"])
    assert {one["class"] for one in found(model)} == {"a", "b"}


def test_labels_of_nobody_s_classes_have_numbers(tmp_path: Path) -> None:
    labels = np.zeros((1, 64, 64))
    labels[:, 32:] = 9
    labels[:, :8] = 255
    labels[:, 8:16] = -1
    model = convert(_whole(labels), tmp_path)
    assert model.facts["classes"] == []
    told = {one["class"]: one for one in found(model)}
    assert set(told) == {"0", "9"}
    # What training leaves out is no class.
    assert decode_rle(told["0"]["rle"]).sum() == pytest.approx(150 * 200 / 4, rel=0.03)


def test_a_class_that_there_is_none_of_is_told_where_it_shows() -> None:
    """Which noise did not show."""
    facts = facts_of("segment", ("a", "b"), SIDE, layout="labels")
    with pytest.raises(ModelFault, match="returned the class number 2 for this image, but it has 2 classes"):
        run(fixed(facts, np.full((1, SIDE, SIDE), 2)))


# --- One number for each pixel.


def _blob() -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 200)


@pytest.mark.parametrize("shape", [(1, 1, SIDE, SIDE), (1, SIDE, SIDE), (SIDE, SIDE), (1, SIDE, SIDE, 1)])
def test_shares_of_one_class_are_masks(shape: tuple[int, ...], tmp_path: Path) -> None:
    """As mattings, saliency and binary segmenters give them, with and without a channel."""
    model = convert(giving(_blob().reshape(shape)), tmp_path, {"names": ["thing"]})
    assert model.facts["layout"] == "semantic"
    (mask,) = masks_of(model).values()
    assert np.array_equal(mask, enlarged(_blob() > 0.5) > 0)


class Light(nn.Module):
    """How light pixels are, in one number each."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 1, 1)
        self.look.weight.data.fill_(2)
        self.look.bias.data.fill_(-3)
        self.end = end

    def forward(self, x: Any) -> Any:
        return self.end(self.look(x))


@pytest.mark.parametrize("names", [["light"], ["dark", "light"]])
@pytest.mark.parametrize("end", ["logits", "shares", "whether", "whole"])
def test_masks_as_networks_end(end: str, names: list[str], tmp_path: Path) -> None:
    ends = {
        "logits": lambda x: x,
        "shares": lambda x: x.sigmoid(),
        "whether": lambda x: x > 0,
        "whole": lambda x: (x.sigmoid() > 0.5).float(),
    }
    onnx = trace(Light(ends[end]))
    model = convert(onnx, tmp_path, {"names": names, **PLAIN})
    assert model.facts["layout"] == "semantic"
    assert model.facts["classes"] == ["light"]
    told = run_plainly(onnx, shown(0, 1)).astype(float)[0, 0]
    wanted = enlarged(told > (0 if end == "logits" else 0.5))
    (one,) = found(model, data=DATA)
    assert np.array_equal(decode_rle(one["rle"]), wanted)
    assert (one["confidence"] == 1) == (end in ("whether", "whole"))


def test_classes_that_do_not_rule_each_other_out(tmp_path: Path) -> None:
    """Each has a share of its own, its confidence. Where none is above a half there is nothing."""
    shares = np.zeros((1, 3, SIDE, SIDE), np.float32)
    shares[0, 0, :32], shares[0, 1, 48:], shares[0, 2] = 0.9, 0.8, 0.2
    end = torch.logit(torch.from_numpy(shares).clamp(1e-6, 1 - 1e-6))
    onnx = trace(Tell(lambda x: (x * 0 + end).sigmoid(), classes=3))
    model = convert(onnx, tmp_path, {"task": "segment", "names": list("abc")})
    told = {one["class"]: one for one in found(model)}
    assert {name: round(one["confidence"], 3) for name, one in told.items()} == {"a": 0.9, "b": 0.8}
    assert decode_rle(told["a"]["rle"]).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1, SIDE, SIDE), (1, SIDE, SIDE), (1, 1, SIDE // 2, SIDE // 2)])
def test_depth_is_no_class(shape: tuple[int, ...], tmp_path: Path) -> None:
    onnx = giving(np.linspace(3, 1810, int(np.prod(shape))).reshape(shape))
    with pytest.raises(Refused, match=r"one number per pixel, up to 1.81e\+03 for noise\. .* depth"):
        convert(onnx, tmp_path)


def test_depth_behind_a_relu_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Regression models, such as depth"):
        convert(trace(Light(lambda x: torch.relu(x + 5).squeeze(1))), tmp_path)


@pytest.mark.parametrize("classes", [85, 32])
def test_coarse_cells_are_features_unless_they_are_named(classes: int, tmp_path: Path) -> None:
    onnx = trace(Tell(lambda x: x, classes=classes, stride=16))
    with pytest.raises(Refused, match="cells of 16 × 16 pixels: features, or raw detector output"):
        convert(onnx, tmp_path)
    (tmp_path / "named").mkdir()
    names = [f"n{number}" for number in range(classes)]
    assert convert(onnx, tmp_path / "named", {"names": names}).facts["layout"] == "semantic"
