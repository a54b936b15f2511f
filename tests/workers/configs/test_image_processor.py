"""Configs of Hugging Face and timm as people have them: followed to the pixel, or refused with what to
change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.workers.families.gan.layers import upload_of
from tests.workers.families.onnx.test_family import convert, found, trace
from tests.workers.families.onnx.test_inputs import PIXELS, Placed
from tests.workers.families.vit import test_layouts
from tests.workers.families.vit.test_family import CONFIG, _draw_state
from tests.workers.media.samples import encode
from workers import registry
from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session
from workers.media.picture import Picture
from workers.vision.classify import prepare

VIT = registry.get("vit")
SIDE = 64
NAMES = {str(number): name for number, name in enumerate("abcd")}
BASE: dict[str, Any] = {
    "id2label": NAMES,
    "image_size": SIDE,
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
}
MEAN, STD = np.asarray(BASE["image_mean"]), np.asarray(BASE["image_std"])


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, bytes]:
    """A classifier that tells colors and places apart."""
    torch.manual_seed(9)
    made = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval()
    return made, trace(made, SIDE, SIDE, pixels=False)


def _resize(size: tuple[int, int], resample: int = 2) -> np.ndarray:
    return np.asarray(Image.fromarray(PIXELS).resize(size, Image.Resampling(resample)), np.float64)


def _short(short: int, resample: int = 2) -> np.ndarray:
    """Resized by the shorter side, and the middle of SIDE pixels cut out."""
    height, width = PIXELS.shape[:2]
    scale = short / min(height, width)
    return _middle(_resize((int(width * scale + 1e-9), int(height * scale + 1e-9)), resample))


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (round((length - SIDE) / 2) for length in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


def _normal(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255 - MEAN) / STD


CROP = {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
# What is changed, and what the network then sees, (64, 64, 3), as the processors of Transformers work it out.
FOLLOWED: dict[str, tuple[dict[str, Any], Any]] = {
    "as it is": ({}, lambda: _normal(_resize((64, 64)))),
    "one mean for all": (
        {"image_mean": 0.5, "image_std": 0.25},
        lambda: (_resize((64, 64)) / 255 - 0.5) / 0.25,
    ),
    "not normalized": ({"do_normalize": False}, lambda: _resize((64, 64)) / 255),
    "not rescaled": ({"do_rescale": False, "do_normalize": False}, lambda: _resize((64, 64))),
    "not rescaled, but normalized": (
        {"do_rescale": False, "image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]},
        lambda: (_resize((64, 64)) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375],
    ),
    "from -1 to 1": (
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        lambda: _resize((64, 64)) / 127.5 - 1,
    ),
    "from -1 to 1, of before": (
        {"rescale_factor": 0.00784313725490196, "offset": True, "do_normalize": False},
        lambda: _resize((64, 64)) / 127.5 - 1,
    ),
    "from 0 to 2": ({"rescale_factor": 1 / 127.5}, lambda: (_resize((64, 64)) / 127.5 - MEAN) / STD),
    "EfficientNet": (
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True, "rescale_offset": False},
        lambda: _normal(_resize((64, 64))) / STD,
    ),
    "EfficientNet that does not say it": (
        {"image_processor_type": "EfficientNetImageProcessorFast"},
        lambda: _normal(_resize((64, 64))) / STD,
    ),
    "nearest": ({"resample": 0}, lambda: _normal(_resize((64, 64), 0))),
    "lanczos": ({"resample": 1}, lambda: _normal(_resize((64, 64), 1))),
    "bicubic": ({"resample": 3}, lambda: _normal(_resize((64, 64), 3))),
    "shortest edge": ({"size": {"shortest_edge": 64}, **CROP}, lambda: _normal(_short(64))),
    "shortest edge, cut": ({"size": {"shortest_edge": 80}, **CROP}, lambda: _normal(_short(80))),
    "CLIP of before": ({"size": 80, "resample": 3, "do_center_crop": True, "crop_size": 64}, lambda:
    _normal(_short(80, 3))), "DeiT": (
        {"size": {"height": 73, "width": 73}, "resample": 3, **CROP},
        lambda: _normal(_middle(_resize((73, 73), 3))),
    ),
    "DeiT of before": (
        {"feature_extractor_type": "DeiTFeatureExtractor", "size": 73, "do_center_crop": True, "crop_size":
        64}, lambda: _normal(_middle(_resize((73, 73)))),
    ),
    "LeViT": (
        {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 64}, **CROP},
        lambda: _normal(_short(73)),
    ),
    "ConvNeXt": (
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}, "crop_pct": 0.875},
        lambda: _normal(_short(73)),
    ),
    "PoolFormer": (
        {"size": {"shortest_edge": 64}, "crop_pct": 0.9, **CROP},
        lambda: _normal(_short(71)),
    ),
    "MobileViT": (
        {"do_flip_channel_order": True, "do_normalize": False},
        lambda: _resize((64, 64))[..., ::-1] / 255,
    ),
    "a file in the file": (
        {"size": None, "preprocessor_config": {"size": {"shortest_edge": 80}, **CROP}},
        lambda: _normal(_short(80)),
    ),
    "timm": (
        {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 0.9}},
        lambda: (_short(71, 3) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
    "timm, squashed": (
        {
            "architecture": "resnet18",
            "pretrained_cfg": {"input_size": [3, 64, 64], "crop_mode": "squash", "interpolation": "bilinear",
                               "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "crop_pct": 0.9},
        },
        lambda: _normal(_middle(_resize((71, 71)))),
    ),
    "timm, flat": (
        {"architecture": "resnet18", "input_size": [3, 64, 64], "crop_pct": 1.0, "interpolation": "bicubic",
         "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
        lambda: _normal(_short(64, 3)),
    ),
}  # fmt: skip


def _config(case: str) -> dict[str, Any]:
    changes = FOLLOWED[case][0]
    base = {"id2label": NAMES} if "architecture" in changes else BASE
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


@pytest.mark.parametrize("case", FOLLOWED)
def test_images_are_prepared_as_the_config_says(
    case: str, network: tuple[nn.Module, bytes], tmp_path: Path
) -> None:
    model = convert(network[1], tmp_path, _config(case))
    assert model.facts["assumed"] == []
    _check(model.facts, FOLLOWED[case][1]())


def _check(facts: Mapping[str, Any], wanted: np.ndarray) -> None:
    seen = prepare(Picture.open(encode(Image.fromarray(PIXELS), "PNG")), SIDE, facts)[0].transpose(1, 2, 0)
    assert seen.shape == wanted.shape == (SIDE, SIDE, 3)
    # A level of 255, in the units of what the network sees.
    step = np.ptp(wanted) / 255
    assert np.abs(seen - wanted).max() < 2.5 * step
    assert np.abs(seen - wanted).mean() < 0.6 * step


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights of a Vision Transformer for images of 64 pixels, with 5 classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_layouts, "ACROSS", 8)
        return test_layouts._timm()


@pytest.mark.parametrize("case", FOLLOWED)
def test_weights_are_shown_images_as_the_config_says(case: str, state: dict[str, torch.Tensor]) -> None:
    config = {name: value for name, value in _config(case).items() if name != "id2label"}
    facts = VIT.convert(upload_of(state, config=config)).facts
    assert facts["assumed"] == []
    _check(facts, FOLLOWED[case][1]())


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "not resized": ({"do_resize": False}, "do_resize = false, so images would keep their own size"),
    "no square": ({"size": {"height": 64, "width": 48}}, "is not square"),
    "no square image": (
        {"image_size": [64, 48]},
        r"image_size( of the config.json, \[64, 48\],| = \[64, 48\])",
    ),
    "the longest edge": ({"size": {"longest_edge": 64}}, "is not square"),
    "two edges": ({"size": {"shortest_edge": 64, "longest_edge": 90}}, "is not square"),
    "a rectangle": ({"size": {"shortest_edge": 64}, "do_center_crop": False}, "images would not be square"),
    "a border": ({"size": {"shortest_edge": 48}, **CROP}, "crops 64 pixels from 48"),
    "a word": (
        {"do_normalize": "false"},
        "do_normalize of the config.json is false. It must be true or false",
    ),
    "no filter": ({"resample": 9}, "resizes with 9. It must be one of 0"),
    "no factor": ({"rescale_factor": 0}, "rescale_factor of the config.json is 0. It must be above 0"),
    "a mean of bytes": (
        {"image_mean": [123.7, 116.3, 103.5]},
        "image_mean of the config.json must be 3 numbers from 0 to 1",
    ),
    "a zero": ({"image_std": 0}, "contains 0"),
    "padded": ({"do_pad": True}, "has do_pad = True, which is not supported"),
    "colors": ({"do_color_quantize": True}, "has do_color_quantize = True, which is not supported"),
    "a divisor": ({"size_divisor": 32}, "has size_divisor = 32, which is not supported"),
    "another word": ({"normalize": {"mean": [0, 0, 0]}}, "has normalize = .*, which is not supported"),
    "other sizes": ({"size": {"height": 96, "width": 96}}, "96 × 96"),
    "a regression": ({"problem_type": "regression"}, "problem_type of the config.json is regression"),
    "other classes": ({"num_labels": 9}, "has 9 classes"),
    "labels": ({"id2label": ["a", "b", "c"]}, "3"),
    "too many labels": ({"id2label": [*"abcdefgh"]}, "8"),
    "a gap": ({"id2label": {"0": "a", "2": "b", "3": "c", "4": "d"}}, "without a gap"),
    "nothing": ({"id2label": {"0": None, "1": "b", "2": "c", "3": "d"}}, "is not a string"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_cannot_be_followed_is_refused(
    case: str, network: tuple[nn.Module, bytes], tmp_path: Path
) -> None:
    changes, sentence = SAID[case]
    with pytest.raises(Refused, match=sentence) as caught:
        convert(network[1], tmp_path, {**BASE, **changes})
    assert caught.value.code in ("config", "names")


@pytest.mark.parametrize("case", SAID)
def test_it_is_refused_with_weights_as_well(case: str, state: dict[str, torch.Tensor]) -> None:
    changes, sentence = SAID[case]
    with pytest.raises(Refused, match=sentence) as caught:
        VIT.convert(upload_of(state, config={**BASE, "id2label": [*"abcde"], **changes}))
    assert caught.value.code == "config"


def test_what_is_known_to_change_nothing_is_taken(network: tuple[nn.Module, bytes], tmp_path: Path) -> None:
    beside = {
        "_name_or_path": "x", "architectures": ["ConvNextForImageClassification"], "hidden_sizes": [40, 80],
        "do_convert_rgb": True, "do_reduce_labels": False, "do_pad": False, "data_format": "channels_first",
        "image_processor_type": "ViTImageProcessor", "drop_path_rate": 0.0, "layer_scale_init_value": 1e-6,
        "initializer_range": 0.02, "num_channels": 3, "torch_dtype": "float32", "transformers_version": "4.4",
        "label2id": {"a": 0, "b": 1, "c": 2, "d": 3}, "size_divisor": None, "crop_size": {"height": 9,
        "width": 9},
    }  # fmt: skip
    assert convert(network[1], tmp_path, {**BASE, **beside}).facts["stretch"] is True


# --- Names.

NAMED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a list": ({"id2label": ["a", "b", "c", "d"]}, ["a", "b", "c", "d"]),
    "whole numbers": ({"id2label": {"0": 0, "1": 1, "2": 2, "3": 3}}, ["0", "1", "2", "3"]),
    "the numbers of digits": ({"id2label": [7, 3, 9, 1]}, ["7", "3", "9", "1"]),
    "the other way around": ({"id2label": None, "label2id": {"d": 3, "b": 1, "a": 0, "c": 2}}, ["a", "b", "c",
    "d"]), "turned around by mistake": ({"id2label": {"a": 0, "b": 1, "c": 2, "d": 3}}, ["a", "b", "c", "d"]),
    "numbers as texts": ({"id2label": None, "label2id": {"a": "0", "b": "1", "c": "2", "d": "3"}}, ["a", "b",
    "c", "d"]), "digits by number": ({"id2label": None, "label2id": {"7": 0, "3": 1, "9": 2, "1": 3}}, ["7",
    "3", "9", "1"]), "timm": ({"id2label": None, "label_names": ["a", "b", "c", "d"]}, ["a", "b", "c", "d"]),
    "timm, inside": ({"id2label": None, "pretrained_cfg": {"input_size": [3, 64, 64], "label_names":
    [*"abcd"]}}, [*"abcd"]), "labels": ({"id2label": None, "labels": [*"abcd"]}, [*"abcd"]),
    "lines": ({"id2label": None, "labels": "a\nb\nc\nd\n"}, [*"abcd"]),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_names_are_read(
    case: str, network: tuple[nn.Module, bytes], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    changes, names = NAMED[case]
    config = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    assert convert(network[1], tmp_path, config).facts["classes"] == names
    if len(names) == len(set(names)):
        with pytest.raises(Refused, match="does not name the 5 classes"):
            VIT.convert(upload_of(state, config=config))


# --- What makes shares of the outputs.


def test_several_classes_may_be_there_at_once(network: tuple[nn.Module, bytes], tmp_path: Path) -> None:
    config = {**BASE, "problem_type": "multi_label_classification"}
    model = convert(network[1], tmp_path, config)
    pixels = torch.from_numpy(_normal(_resize((64, 64))).astype(np.float32)).permute(2, 0, 1)[None]
    wanted = network[0](pixels).detach().sigmoid()[0].tolist()
    told = {one["class_id"]: one["confidence"] for one in found(model, top_k=4)}
    assert [told[number] for number in range(4)] == pytest.approx(wanted, abs=2e-3)
    assert abs(sum(wanted) - 1) > 0.05


def test_weights_may_be_of_several_classes_at_once() -> None:
    made, plain = (
        VIT.convert(upload_of(_draw_state(), config={**CONFIG, "problem_type": problem}))
        for problem in ("multi_label_classification", "single_label_classification")
    )
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9)).numpy()
    shares, whole = (open_session(one.onnx).run(pixels)[0][0].astype(np.float64) for one in (made, plain))
    odds = shares / (1 - shares)
    assert np.abs(odds / odds.sum() - whole).max() < 1e-4
    assert abs(shares.sum() - 1) > 0.05


def test_the_only_class_is_there_or_not(tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 8 * 8, 1)).eval()
    config = {**BASE, "id2label": {"0": "cat"}}
    model = convert(trace(made, SIDE, SIDE, pixels=False), tmp_path, config)
    pixels = torch.from_numpy(_normal(_resize((64, 64))).astype(np.float32)).permute(2, 0, 1)[None]
    wanted = float(made(pixels).detach().sigmoid())
    assert 0.02 < wanted < 0.98
    told = {one["class"]: one["confidence"] for one in found(model)}
    assert told == pytest.approx({"cat": wanted, "not cat": 1 - wanted}, abs=2e-3)


# --- Other graphs.


def test_models_that_make_pictures_are_not_shown_normalized_pixels(tmp_path: Path) -> None:
    graph = trace(nn.Conv2d(3, 3, 1), SIDE, SIDE, pixels=False)
    with pytest.raises(Refused, match="Image-to-image models do not support them") as caught:
        convert(graph, _folder(tmp_path, "one"), {"task": "image", "mean": [0.5], "std": [0.5]})
    assert caught.value.code == "config"
    plain = {"task": "image", "mean": [0, 0, 0], "std": [1, 1, 1]}
    assert convert(graph, _folder(tmp_path, "other"), plain).facts["task"] == "image"


def _folder(within: Path, name: str) -> Path:
    (within / name).mkdir()
    return within / name


@pytest.mark.parametrize(
    "config", [{"image_size": 128}, {"do_resize": True, "size": {"height": 128, "width": 128}}]
)
def test_a_graph_whose_positions_are_for_another_size_says_so(config: dict[str, Any], tmp_path: Path) -> None:
    graph = trace(Placed(3), 96, 96, dynamic=True, pixels=False)
    with pytest.raises(Refused, match=r"It ran with 128 × 128 pixels, from its config.json or metadata"):
        convert(graph, _folder(tmp_path, "one"), config)
    model = convert(graph, _folder(tmp_path, "other"), {"image_size": 96})
    assert model.facts["input"]["width"] == 96


@pytest.mark.parametrize(
    "config", [{"image_size": 96}, {"size": 32}, {"pretrained_cfg": {"input_size": [3, 96, 96]}}]
)
def test_a_graph_for_one_size_takes_no_config_for_another(
    config: dict[str, Any], network: tuple[nn.Module, bytes], tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"but the graph has 64 × 64. Upload the config.json of this model"):
        convert(network[1], tmp_path, config)
