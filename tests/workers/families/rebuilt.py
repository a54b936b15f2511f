"""One small converted model with random weights for each network that torch runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.workers.families.gan import enlargers, generators
from tests.workers.families.gan.layers import Sample, upload_of
from tests.workers.families.yolo import checkpoints
from workers import bundle, registry
from workers.bundle import FolderModel
from workers.cache import Cache
from workers.checkpoints.open import open_upload
from workers.plugin import Context

YOLO = ("yolo11n", "yolo11n-seg", "yolo11n-pose", "yolo11n-obb", "yolo11n-cls", "yolov10n", "yolo26n-pose")
GENERATORS: dict[str, Callable[[], Sample]] = {
    "compact": lambda: enlargers.srvgg(features=8, convolutions=3),
    "esrgan": lambda: enlargers.rrdb(blocks=1),
    "resnet": generators.resnet,
    "unet": generators.unet,
    "style": generators.transformer_net,
    "anime": generators.anime,
    "noise": generators.dcgan,
}
NAMES = (*YOLO, "yolov5", *GENERATORS, "vit")


def convert(name: str, folder: Path) -> FolderModel:
    """Convert the model of a name into an empty folder."""
    family, upload = _upload_of(name, folder.parent)
    bundle.write(registry.get(family).convert(upload), folder)
    return FolderModel(folder)


def _upload_of(name: str, beside: Path) -> tuple[str, Any]:
    if name in YOLO:
        path = checkpoints.save(checkpoints.make_model(name), beside / f"{name}.pt")
        return "yolo", open_upload(path)
    if name == "yolov5":
        checkpoints.quiet()
        from tests.workers.families.yolo import yolov5_repository

        path = yolov5_repository.save(yolov5_repository.make_model(), beside / "yolov5.pt")
        return "yolo", open_upload(path)
    if name == "vit":
        from tests.workers.families.vit.test_family import CONFIG, _draw_state

        return "vit", upload_of(_draw_state(), config=CONFIG)
    return "gan", upload_of(GENERATORS[name]().state)


def context_of(model: FolderModel, device: str, **more: Any) -> Context:
    return Context(device=device, models={model.key: model}, model=model, memo=Cache(), **more)


def sides_of(model: FolderModel) -> list[tuple[int, int]]:
    """Return input sizes: two for dynamic axes."""
    size, stride = model.facts["input"], model.facts["stride"]
    if model.facts["layout"] == "noise":
        return [(1, 1)]
    if size["width"]:
        return [(size["height"], size["width"])]
    side = max(32, stride)
    return [(side, side), (side, side + max(16, stride))]


def inputs_of(model: FolderModel, number: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    shapes = [(1, model.facts["input"]["channels"], *sides) for sides in sides_of(model)]
    return [random.random(shape, np.float32) for shape in shapes for _ in range(number)]


def tensors_of(model: FolderModel) -> dict[str, Any]:
    from safetensors.torch import load

    tensors: dict[str, Any] = load(model.read("weights.safetensors"))
    return tensors
