"""Preprocessing of images for ONNX classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.onnx.test_family import convert, found, trace
from tests.workers.families.onnx.test_inputs import PIXELS


@pytest.fixture(scope="module")
def tilted() -> tuple[nn.Module, bytes]:
    """A classifier that tells what lies where apart."""
    torch.manual_seed(9)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    return network, trace(network, 64, 64, pixels=False)


def _shares(network: nn.Module, image: Image.Image, mean: float, std: float) -> list[float]:
    pixels = (np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255 - mean) / std
    with torch.no_grad():
        found: list[float] = network(torch.from_numpy(pixels.astype(np.float32))).softmax(1)[0].tolist()
    return found


def _cut(image: Image.Image, short: int, side: int) -> Image.Image:
    """`Resize(short)` and `CenterCrop(side)` of torchvision."""
    sides = [int(short * length / min(image.size)) for length in image.size]
    image = image.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))


HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
LABELS = {"id2label": {str(number): name for number, name in enumerate("abcd")}, "image_size": 64}
PREPARED: dict[str, tuple[dict[str, Any], int | None, dict[str, Any]]] = {
    "cut, in our words": ({"mean": [0.5], "std": [0.5], "crop_pct": 0.8}, 80, {"crop_pct": 0.8}),
    "squeezed, in our words": ({**HALVES, "stretch": True}, None, {"stretch": True}),
    "ConvNeXt": (
        {**LABELS, **HALVES, "do_resize": True, "size": {"shortest_edge": 64}, "crop_pct": 0.8},
        80,
        {"crop_pct": 0.8},
    ),
    "ViT": (
        {**LABELS, **HALVES, "do_resize": True, "size": {"height": 64, "width": 64}},
        None,
        {"stretch": True},
    ),
    "ViT of before": ({**LABELS, **HALVES, "do_resize": True, "size": 64}, None, {"stretch": True}),
    "nothing cut": ({**LABELS, **HALVES, "do_center_crop": False}, None, {"stretch": True}),
    "LeViT": (
        {
            **LABELS,
            **HALVES,
            "do_resize": True,
            "do_center_crop": True,
            "size": {"shortest_edge": 80},
            "crop_size": {"height": 64, "width": 64},
        },
        80,
        {"crop_pct": 0.8},
    ),
    "the shorter side": (
        {**HALVES, "do_resize": True, "size": {"shortest_edge": 64}, "crop_pct": None},
        64,
        {"crop_pct": 1},
    ),
}


@pytest.mark.parametrize("case", list(PREPARED))
def test_a_classifier_sees_pictures_as_its_config_says(
    case: str, tilted: tuple[nn.Module, bytes], tmp_path: Path
) -> None:
    config, short, facts = PREPARED[case]
    network, onnx = tilted
    model = convert(onnx, tmp_path, config)
    assert {name: model.facts[name] for name in ("crop_pct", "stretch") if name in model.facts} == facts
    assert model.facts["assumed"] == []
    image = Image.fromarray(PIXELS)
    shown = image.resize((64, 64), Image.Resampling.BILINEAR) if short is None else _cut(image, short, 64)
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(_shares(network, shown, 0.5, 0.5), abs=2e-3)
    other = _shares(network, _cut(image, 128, 64), 0.5, 0.5)
    assert [told[number] for number in range(4)] != pytest.approx(other, abs=2e-3)


@pytest.mark.parametrize(
    ("config", "assumed"),
    [
        (None, ["mean", "std", "crop_pct"]),
        ({"mean": [0.4]}, ["std", "crop_pct"]),
        ({**HALVES, "names": list("abcd")}, ["crop_pct"]),
        ({"do_center_crop": True}, ["mean", "std"]),
    ],
)
def test_what_of_it_nobody_said_is_written_down(
    config: Any, assumed: list[str], tilted: tuple[nn.Module, bytes], tmp_path: Path
) -> None:
    facts = convert(tilted[1], tmp_path, config).facts
    assert (facts["crop_pct"], facts["assumed"]) == (1, assumed)
    assert "stretch" not in facts


def test_a_model_of_before_sees_the_middle_square(tilted: tuple[nn.Module, bytes], tmp_path: Path) -> None:
    network, onnx = tilted
    model = convert(onnx, tmp_path)
    facts = {name: value for name, value in model.facts.items() if name not in ("crop_pct", "assumed")}
    model.__dict__["facts"] = {**facts, "mean": [0.5] * 3, "std": [0.5] * 3}
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    wanted = _shares(network, _cut(Image.fromarray(PIXELS), 64, 64), 0.5, 0.5)
    assert [told[number] for number in range(4)] == pytest.approx(wanted, abs=2e-3)
