"""ONNX graphs with uint8, float64, float16 or BGR inputs, and unsupported inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.onnx.test_family import convert, found, run
from tests.workers.families.onnx.test_inputs import _square
from tests.workers.families.onnx.test_labels import SIDE, Last, run_plainly, trace
from tests.workers.media.samples import decode, encode
from workers.checkpoints.upload import Refused


class Normal(nn.Module):
    """A classifier that does by itself what is done with pixels."""

    def __init__(self, dtype: torch.dtype, channels: int = 3, scale: float = 255) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.inner = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(channels * (SIDE // 8) ** 2, 4))
        self.inner[2].weight.data *= 8
        self.dtype, self.scale = dtype, scale
        if dtype == torch.float16:
            self.inner.to(dtype)

    def forward(self, x: Any) -> Any:
        if self.dtype in (torch.float64, torch.float16):
            # ONNX Runtime pools no numbers of 64 bits.
            return self.inner(x if self.dtype == torch.float16 else x.float())
        return self.inner((x.float() / self.scale - 0.5) / 0.5)


KINDS = {
    "uint8": (torch.uint8, np.uint8),
    "float64": (torch.float64, np.float64),
    "float16": (torch.float16, np.float16),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_other_numbers_than_floats_of_32_bits(
    kind: str, is_last: bool, channels: int, tmp_path: Path
) -> None:
    dtype, given = KINDS[kind]
    shape = (1, SIDE, SIDE, channels) if is_last else (1, channels, SIDE, SIDE)
    network = Normal(dtype, channels)
    onnx = trace(Last(network) if is_last else network, sample=torch.zeros(shape, dtype=dtype))
    model = convert(onnx, tmp_path, None if kind == "uint8" else {"mean": [0], "std": [1]})
    assert model.facts["input"] == {"width": SIDE, "height": SIDE, "channels": channels}
    assert (set(model.facts["mean"]), set(model.facts["std"])) == ({0}, {1})
    assert model.facts["assumed"] == ["crop_pct"]
    # No constant of ours is counted.
    assert model.facts["parameters"] == pytest.approx(sum(one.numel() for one in network.parameters()), abs=4)
    pixels = _square(SIDE, channels)
    pixels = np.rint(pixels * 255) if kind == "uint8" else pixels
    logits = run_plainly(onnx, (pixels.transpose(0, 2, 3, 1) if is_last else pixels).astype(given))[0]
    wanted = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted.tolist(), abs=0.02)
    assert wanted.max() < 0.99


def test_each_byte_arrives_as_it_is(tmp_path: Path) -> None:
    """A graph that gives its bytes back: all 256 of them."""

    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none = nn.Parameter(torch.zeros(1))

        def forward(self, x: Any) -> Any:
            return (x.float() + self.none).to(torch.uint8)

    onnx = trace(Last(Same()), sample=torch.zeros((1, 16, 16, 3), dtype=torch.uint8))
    model = convert(onnx, tmp_path)
    assert (model.facts["task"], model.facts["architecture"]) == ("image", {"takes": "unit", "gives": "byte"})
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([levels, levels.T, 255 - levels], 2))
    made = np.asarray(decode(run(model, data=encode(image, "PNG")).files[0].data))
    assert np.array_equal(made, np.asarray(image))


def test_what_is_done_with_pixels_is_not_done_twice(tmp_path: Path) -> None:
    onnx = trace(Normal(torch.uint8), sample=torch.zeros((1, 3, SIDE, SIDE), dtype=torch.uint8))
    with pytest.raises(Refused, match=r"Its input is uint8.*Remove mean and std"):
        convert(onnx, tmp_path, {"mean": [0.5], "std": [0.5]})


def test_blue_first_as_the_config_says(tmp_path: Path) -> None:
    network = Normal(torch.float32, scale=1)
    onnx = trace(network)
    model = convert(onnx, tmp_path, {"order": "bgr", "mean": [0.1, 0.2, 0.3], "std": [1]})
    shown = (_square(SIDE, 3) - np.reshape([0.1, 0.2, 0.3], (1, 3, 1, 1)))[:, ::-1]
    logits = run_plainly(onnx, np.ascontiguousarray(shown, np.float32))[0].astype(float)
    wanted = np.exp(logits) / np.exp(logits).sum()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted.tolist(), abs=0.02)


def test_a_picture_of_blue_first_comes_back_red_first(tmp_path: Path) -> None:
    class Blue(nn.Module):
        """Takes away the first channel, which is blue."""

        def __init__(self) -> None:
            super().__init__()
            self.keep = nn.Parameter(torch.tensor([0.0, 1.0, 1.0]).reshape(1, 3, 1, 1))

        def forward(self, x: Any) -> Any:
            return x * self.keep

    model = convert(trace(Blue()), tmp_path, {"order": "bgr", "takes": "unit", "gives": "unit"})
    made = np.asarray(
        decode(run(model, data=encode(Image.new("RGB", (64, 64), (10, 20, 30)), "PNG")).files[0].data)
    )
    assert np.abs(made.astype(int) - (10, 20, 0)).max() <= 1


def _sample(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
    class Any_(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return (x.float() * self.one).flatten(1)[:, :4]

    return trace(Any_(), sample=torch.zeros(shape, dtype=dtype))


REFUSED = {
    "four channels": (lambda: _sample(1, 4, 32, 32), "Its input has 4 channels. Only 3 .* or 1"),
    "four channels, last": (lambda: _sample(1, 32, 32, 4), "Its input has 4 channels"),
    "signed bytes": (
        lambda: _sample(1, 3, 32, 32, dtype=torch.int8),
        "type int8. Export it with an input of type float32",
    ),
    "whole numbers": (lambda: _sample(1, 32, 32, 3, dtype=torch.int64), "type int64. Export it with"),
    "two pictures": (lambda: _sample(2, 3, 32, 32), "batch size is 2. Export it with a batch size of 1"),
    "two pictures, last": (
        lambda: _sample(2, 32, 32, 3),
        "batch size is 2. Export it with a batch size of 1",
    ),
    "frames": (lambda: _sample(1, 3, 8, 32, 32), "It has 5 dimensions"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_given_is_refused(case: str, tmp_path: Path) -> None:
    onnx, sentence = REFUSED[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(onnx(), tmp_path)
    assert caught.value.code == "inputs"
