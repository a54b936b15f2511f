"""Inputs of ONNX graphs: sizes, channels and preprocessing, from the graph, the config or runs."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.onnx.test_family import convert, found, run, trace
from tests.workers.media.samples import decode, draw, encode
from workers import registry
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session
from workers.plugin import OperationError

PIXELS = np.asarray(draw(200, 150, seed=4))


class Placed(nn.Module):
    """Patches of 32 pixels, of which each has a place of its own: as many as pictures of one size have."""

    def __init__(self, across: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.patches = nn.Conv2d(3, 8, 32, stride=32)
        self.places = nn.Parameter(torch.randn(1, across**2, 8))
        self.guess = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        placed = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.guess(placed.tanh().mean(1))


class Gray(nn.Module):
    """Digits: one channel in, `outer` out, `pooled` or not."""

    def __init__(self, outer: int, *, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.pooled = pooled
        self.look = nn.Conv2d(1, 6, 3, padding=1)
        self.tell = nn.Conv2d(6, outer, 1)

    def forward(self, x: Any) -> Any:
        told = self.tell(torch.relu(self.look(x)))
        return told.mean((2, 3)) if self.pooled else told


def _square(side: int, channels: int) -> np.ndarray:
    """The middle of the picture as torchvision's transforms cut it, (1, channels, side, side) of 0 to 1."""
    image = Image.fromarray(PIXELS).convert("RGB" if channels == 3 else "L")
    wide = image.resize((side * 200 // 150, side), Image.Resampling.BILINEAR)
    left = round((wide.width - side) / 2)
    pixels = np.asarray(wide.crop((left, 0, left + side, side)), np.float32) / 255
    return pixels[None, None] if channels == 1 else pixels.transpose(2, 0, 1)[None]


# --- Sizes.


@pytest.mark.parametrize(("across", "config"), [(7, None), (12, None), (3, {"image_size": 96})])
def test_any_size_is_said_and_one_is_meant(across: int, config: Any, tmp_path: Path) -> None:
    """As transformers are exported, with axes that have names instead of numbers."""
    network = Placed(across)
    model = convert(trace(network, across * 32, across * 32, dynamic=True, pixels=False), tmp_path, config)
    side = across * 32
    assert (model.facts["task"], model.facts["input"]["width"]) == ("classify", side)
    assert open_session(model.read("model.onnx")).shape == (1, 3, side, side)
    shown = (_square(side, 3) - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape(
        [0.229, 0.224, 0.225], (3, 1, 1)
    )
    with torch.no_grad():
        wanted = network(torch.from_numpy(shown.astype(np.float32))).softmax(1)[0].numpy()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted.tolist(), abs=0.01)
    with pytest.raises(OperationError, match="only supports"):
        run(model, image_size=64)


@pytest.mark.parametrize(
    "size",
    [96, [96, 96], {"height": 96, "width": 96}, {"shortest_edge": 96}],
    ids=["n", "list", "both", "short"],
)
def test_the_words_of_hugging_face_for_a_size(size: Any, tmp_path: Path) -> None:
    model = convert(trace(Placed(3), 96, 96, dynamic=True, pixels=False), tmp_path, {"size": size})
    assert model.facts["input"] == {"width": 96, "height": 96, "channels": 3}


def test_what_takes_no_size_that_is_tried(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ONNX Runtime cannot run it: Non-zero status") as caught:
        convert(trace(Placed(3), 96, 96, dynamic=True, pixels=False), tmp_path)
    assert "onnxruntime_src" not in caught.value.message
    assert caught.value.message.endswith("set it in the config.json as “size”.")


def test_what_takes_any_size_stays_so(tmp_path: Path) -> None:
    model = convert(trace(nn.Conv2d(3, 5, 1), 64, 64, dynamic=True), tmp_path)
    assert open_session(model.read("model.onnx")).shape == (1, 3, None, None)
    assert (model.facts["layout"], model.facts["input"]["width"]) == ("semantic", 640)


# --- Gray.


def test_a_classifier_of_gray_pictures(tmp_path: Path) -> None:
    network = Gray(10, pooled=True)
    model = convert(trace(network, 28, 28, channels=1), tmp_path)
    assert (model.facts["task"], model.facts["input"]["channels"]) == ("classify", 1)
    assert (model.facts["mean"], model.facts["std"]) == ([0], [1])
    with torch.no_grad():
        wanted = network(torch.from_numpy(_square(28, 1))).softmax(1)[0].numpy()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=10)}
    assert [told[number] for number in range(10)] == pytest.approx(wanted.tolist(), abs=0.01)


def test_a_segmenter_of_gray_pictures(tmp_path: Path) -> None:
    model = convert(trace(Gray(4, pooled=False), 48, 48, channels=1), tmp_path)
    assert model.facts["layout"] == "semantic"
    assert found(model, confidence=0.01)


def test_a_graph_that_makes_gray_of_gray(tmp_path: Path) -> None:
    """As the enlarger of PyTorch's own tutorial does."""

    class Larger(nn.Module):
        def forward(self, x: Any) -> Any:
            return nn.functional.interpolate(1 - x, scale_factor=2.0, mode="nearest")

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(1, 1, 1, bias=False)
            self.one.weight.data.fill_(1)
            self.larger = Larger()

        def forward(self, x: Any) -> Any:
            return self.larger(self.one(x))

    onnx = trace(Kept(), 64, 64, channels=1, dynamic=True)
    model = convert(onnx, tmp_path, {"task": "image"})
    assert (model.facts["scale"], model.facts["input"]["channels"]) == (2, 1)
    made = np.asarray(
        decode(run(model, data=encode(Image.new("RGB", (40, 30), (200, 200, 200)), "PNG")).files[0].data)
    )
    assert made.shape == (60, 80, 3)
    assert np.abs(made.astype(int) - 55).max() <= 1


# --- Colors last.


class Turned(nn.Module):
    """A network that takes and gives pictures as TensorFlow does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        made = self.inner(x.permute(0, 3, 1, 2))
        return made.permute(0, 2, 3, 1) if made.dim() == 4 else made


def _trace_turned(network: nn.Module, height: int, width: int, *, dynamic: bool = False) -> bytes:
    target = io.BytesIO()
    axes = {"images": {0: "n", 1: "height", 2: "width"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = torch.zeros(1, height, width, 3)
        torch.onnx.export(
            Turned(network).eval(), (shown,), target, dynamo=False, input_names=["images"], dynamic_axes=axes
        )
    return target.getvalue()


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_classifier_with_colors_last(dynamic: bool, tmp_path: Path) -> None:
    network = Placed(3)
    config = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 1], "size": 96}
    model = convert(_trace_turned(network, 96, 96, dynamic=dynamic), tmp_path, config)
    assert model.facts["input"] == {"width": 96, "height": 96, "channels": 3}
    shown = (_square(96, 3) - np.reshape(config["mean"], (3, 1, 1))) / np.reshape(config["std"], (3, 1, 1))
    with torch.no_grad():
        wanted = network(torch.from_numpy(shown.astype(np.float32))).softmax(1)[0].numpy()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted.tolist(), abs=0.01)


def test_a_segmenter_and_a_picture_with_colors_last(tmp_path: Path) -> None:
    for name, channels, layout in (("labels", 5, "semantic"), ("picture", 3, "picture")):
        torch.manual_seed(5)
        network = nn.Sequential(nn.Conv2d(3, channels, 1), nn.Sigmoid())
        folder = tmp_path / name
        folder.mkdir()
        model = convert(_trace_turned(network, 48, 64), folder)
        assert model.facts["layout"] == layout
        assert model.facts["input"] == {"width": 64, "height": 48, "channels": 3}
        session = open_session(model.read("model.onnx"))
        assert session.shape == (1, 3, 48, 64)
        noise = np.random.default_rng(1).random((1, 3, 48, 64), np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(noise)).numpy()
        assert np.abs(session.run(noise)[0] - wanted).max() < 1e-5


# --- Quantized.


def _quantize(onnx: bytes, folder: Path) -> bytes:
    from onnxruntime import quantization

    class Shown(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            noise = np.random.default_rng(6).random((4, 1, 3, 32, 32), np.float32)
            self.left = [{"images": one} for one in noise]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    plain, quantized = folder / "plain.onnx", folder / "quantized.onnx"
    plain.write_bytes(onnx)
    quantization.quantize_static(plain, quantized, Shown(), quant_format=quantization.QuantFormat.QDQ)
    return quantized.read_bytes()


def test_a_quantized_classifier_gives_what_its_graph_says(tmp_path: Path) -> None:
    """Its shares are rounded, so that they do not sum up to one; each layer rounds as the graph has it."""
    import onnxruntime

    torch.manual_seed(7)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 300, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Softmax(1),
    )
    onnx = _quantize(trace(network, 32, 32, pixels=False), tmp_path)
    model = convert(onnx, tmp_path)
    assert model.facts["layout"] == "probabilities"
    assert model.facts["difference"] < 1e-6
    noise = np.random.default_rng(8).random((1, 3, 32, 32), np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    wanted = plain.run(None, {"images": noise})[0]
    assert abs(wanted.sum() - 1) > 0.01
    assert np.abs(open_session(onnx).run(noise)[0] - wanted).max() < 1e-6


# --- Half precision.


@pytest.mark.parametrize("half", [True, False])
def test_a_graph_of_16_bits_may_differ_by_more(half: bool, tmp_path: Path) -> None:
    """As `yolo export half=True` leaves them: its numbers have 16 bits, what it takes and gives has 32."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(8)
            self.layers = nn.Sequential(
                *(
                    nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU())
                    for _ in range(8)
                )
            )
            if half:
                self.layers.half()

        def forward(self, x: Any) -> Any:
            return self.layers(x.half()).float() if half else self.layers(x)

    network = Halves().eval()
    family = registry.get("onnx")
    (tmp_path / "model.onnx").write_bytes(trace(network, 64, 64))
    made = family.convert(open_upload(tmp_path / "model.onnx", None))
    assert made.tolerance == (0.01 if half else 0.001)
    assert made.difference <= made.tolerance


# --- What cannot be run says what to do.


def _pooled(height: int, width: int) -> bytes:
    return trace(nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1)), height, width)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "four pictures": (lambda: trace(nn.Conv2d(3, 5, 1), 32, 32, batch=4), None, "batch size is 4. Export"),
    "no square": (lambda: _pooled(32, 64), None, "64 × 32 pixels. Classifiers need a square input"),
    "two means": (lambda: _pooled(32, 32), {"mean": [0.5, 0.5]}, "must have 3 numbers"),
    "no part": (
        lambda: _pooled(32, 32),
        {"crop_pct": 0},
        "configuration is not valid: crop_pct: .* greater than",
    ),
    "more than all": (
        lambda: _pooled(32, 32),
        {"crop_pct": 1.2},
        "configuration is not valid: crop_pct: .* less than",
    ),
    "a word for a part": (
        lambda: _pooled(32, 32),
        {"crop_pct": "most"},
        "configuration is not valid: crop_pct",
    ),
    "a number for squeezed": (
        lambda: _pooled(32, 32),
        {"stretch": 2},
        "configuration is not valid: stretch: .* boolean",
    ),
    "a word for cut": (
        lambda: _pooled(32, 32),
        {"do_center_crop": "no"},
        "do_center_crop of the config.json is no. It must be true or false",
    ),
    "both": (lambda: _pooled(32, 32), {"crop_pct": 0.9, "stretch": True}, "exclude each other"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_run_says_why(case: str, tmp_path: Path) -> None:
    onnx, config, sentence = REFUSED[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(onnx(), tmp_path, config)
    assert caught.value.message.endswith(".")


def test_of_a_newer_format_it_says_so(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(trace(nn.Conv2d(3, 5, 1), 32, 32))
    model.ir_version = 99
    with pytest.raises(Refused, match="cannot run it: Unsupported model IR version: 99"):
        convert(model.SerializeToString(), tmp_path)
