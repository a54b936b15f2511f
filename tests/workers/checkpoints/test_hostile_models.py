"""Checkpoints that read well and describe what no model is: refused before anything is built of them."""

from __future__ import annotations

import copy
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workers.checkpoints.attacks import module_bomb
from tests.workers.families.yolo.checkpoints import TINY, make_model, save
from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused
from workers.families.yolo import convert

Change = Callable[[dict[str, Any]], Any]

# A change to the description of a network, and what the sentence says.
DESCRIPTIONS: dict[str, tuple[Change, str]] = {
    "eval_in_activation": (lambda d: d.update(activation="open('was_here', 'w')"), "activation"),
    "import_in_activation": (lambda d: d.update(activation="nn.SiLU() or __import__('this')"), "activation"),
    "activation_of_a_number": (lambda d: d.update(activation=7), "activation"),
    "text_that_is_evaluated": (lambda d: d["backbone"][0].__setitem__(3, ["d", 3, 2]), "argument “d”"),
    "unknown_layer": (lambda d: d["backbone"][0].__setitem__(2, "os.system"), "export the model as ONNX"),
    "detr": (lambda d: d["head"][-1].__setitem__(2, "RTDETRDecoder"), "RT-DETR models are not supported"),
    "layer_of_torch": (lambda d: d["backbone"][0].__setitem__(2, "nn.Linear"), "nn.Linear"),
    "layer_of_torchvision": (lambda d: d["backbone"][0].__setitem__(2, "torchvision.ops.nms"), "torchvision"),
    "unknown_head": (lambda d: d["head"][-1].__setitem__(2, "Conv"), "head Conv"),
    "two_heads": (lambda d: d["head"].insert(0, [[-1], 1, "Detect", ["nc"]]), "several heads"),
    "channels_of_a_billion": (lambda d: d["backbone"][0].__setitem__(3, [10**9, 3, 2]), "above the limit"),
    "kernel_of_a_billion": (lambda d: d["backbone"][0].__setitem__(3, [64, 10**9, 2]), "above the limit"),
    "enlarged_a_thousand_times": (
        lambda d: d["head"][0].__setitem__(3, ["None", 999, "nearest"]),
        "above the limit",
    ),
    "many_repeats": (lambda d: d["backbone"][2].__setitem__(1, 10**9), "repeats"),
    "blocks_in_a_layer": (
        lambda d: d["backbone"].__setitem__(4, [-1, 1, "ResNetLayer", [128, 32, 1, False, 8000]]),
        "more than 500 blocks",
    ),
    "blocks_by_depth": (
        lambda d: (d.update(scales={"n": [8, 0.25, 1024]}), d["backbone"][2].__setitem__(1, 100)),
        "more than 500 blocks",
    ),
    "channels_of_no_picture": (lambda d: d.update(channels=4), "4 channels"),
    "forty_gigabytes": (lambda d: d["backbone"][0].__setitem__(3, [8192, 1024, 2]), "parameters"),
    "wide": (lambda d: d.update(scales={"n": [1, 1e9, 1024]}), "scale"),
    "not_a_number": (lambda d: d.update(scales={"n": [1, float("nan"), 1024]}), "scale"),
    "many_classes": (lambda d: d.update(nc=10**12), "classes"),
    "classes_of_text": (lambda d: d.update(nc="__import__('os')"), "classes"),
    "many_layers": (lambda d: d.update(backbone=d["backbone"] * 100), "more than"),
    "source_ahead": (lambda d: d["backbone"][1].__setitem__(0, 99), "source"),
    "layer_of_two": (lambda d: d["backbone"].__setitem__(0, [1, 2]), "layer 0 is invalid"),
    "no_head": (lambda d: d.pop("head"), "no valid YAML"),
    "misfit": (lambda d: d["head"][-1].__setitem__(0, [0, 1]), "shape|missing"),
    "other_sizes": (lambda d: d["head"][1].__setitem__(0, [-1, 0, 1]), "do not fit"),
    "wrong_arguments": (lambda d: d["backbone"][0].__setitem__(3, [64, None, "nearest"]), "do not fit"),
    "other_classes": (lambda d: d.update(nc=3), "number of classes|shape"),
}


@pytest.fixture(scope="module")
def plain() -> Any:
    return make_model(TINY)


def _refuse(path: Path) -> Refused:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refused) as caught:
        convert.convert(open_upload(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024
    assert caught.value.message.endswith(".")
    return caught.value


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_descriptions(name: str, plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, sentence = DESCRIPTIONS[name]
    model = copy.deepcopy(plain)
    change(model.yaml)
    refused = _refuse(save(model, tmp_path / "model.pt"))
    assert any(part in refused.message for part in sentence.split("|")), refused.message
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_tensor_too_few(plain: Any, tmp_path: Path) -> None:
    import torch

    model = copy.deepcopy(plain)
    model.model[0].bn = torch.nn.Identity()
    assert "model.0.bn.bias is missing" in _refuse(save(model, tmp_path / "model.pt")).message


def test_a_tensor_too_many(plain: Any, tmp_path: Path) -> None:
    import torch

    model = copy.deepcopy(plain)
    model.model[0].register_buffer("extra", torch.zeros(3))
    assert "model.0.extra is unexpected" in _refuse(save(model, tmp_path / "model.pt")).message


def test_a_tensor_of_another_shape(plain: Any, tmp_path: Path) -> None:
    import torch

    model = copy.deepcopy(plain)
    model.model[0].conv.weight = torch.nn.Parameter(torch.zeros(16, 3, 5, 5))
    assert "[16, 3, 5, 5]" in _refuse(save(model, tmp_path / "model.pt")).message


def test_numbers_that_are_none(plain: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(plain)
    model.model[0].conv.weight.data.fill_(float("nan"))
    assert "NaN" in _refuse(save(model, tmp_path / "model.pt")).message


def test_names_that_are_no_names(plain: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(plain)
    model.names = {0: "cat", 1: 2.5}
    assert "names are not strings" in _refuse(save(model, tmp_path / "model.pt")).message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 90_000, "Its class 1, “x{40}…”, has a name of 90,000 characters; the limit is 200"),
        ("y" * 200, ""),
    ],
)
def test_names_that_are_too_long(plain: Any, tmp_path: Path, name: str, said: str) -> None:
    model = copy.deepcopy(plain)
    model.names = {0: "cat", 1: name}
    path = save(model, tmp_path / "model.pt")
    if said:
        assert re.match(said, _refuse(path).message)
    else:
        assert convert.convert(open_upload(path)).facts["classes"] == ["cat", name]


def test_a_module_bomb(tmp_path: Path) -> None:
    """Modules inside of modules that are the same ones: walking all of them would never end."""
    (tmp_path / "model.pt").write_bytes(module_bomb())
    upload = open_upload(tmp_path / "model.pt")
    with pytest.raises(Refused, match="more than 20,000 modules"):
        convert.convert(upload)


def test_the_state_of_a_network_alone(plain: Any, tmp_path: Path) -> None:
    """A state dict does not say how its network is built: YOLO cannot be recognized by it."""
    import torch

    torch.save(plain.state_dict(), tmp_path / "model.pt")
    upload = open_upload(tmp_path / "model.pt")
    assert convert.recognize(upload) is None
    assert upload.tensors["model.0.conv.weight"].shape == (16, 3, 3, 3)
    assert torch.equal(upload.tensors["model.0.conv.weight"], plain.model[0].conv.weight)
