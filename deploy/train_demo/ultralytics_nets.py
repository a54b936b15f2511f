"""Small untrained networks of Ultralytics, and checkpoints in the format of its trainer.

The trainer needs torchvision, which has no build for some platforms. Its models and losses do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import ultralytics
import yaml
from safetensors.torch import load_file
from torch import nn
from ultralytics.cfg import get_cfg

from workers.bundle import WEIGHTS

# Depth and width relative to the largest YOLO11, and maximum channels: about half a million parameters.
_SCALE = [0.33, 0.125, 512]


def build(kind: type[nn.Module], description: str, classes: tuple[str, ...]) -> nn.Module:
    """Return an untrained model of class `kind`, from one of Ultralytics' YAML files of YOLO11."""
    path = Path(ultralytics.__file__).parent / "cfg/models/11" / description
    original = yaml.safe_load(path.read_text())
    config = {**original, "nc": len(classes), "scales": {"n": _SCALE}, "scale": "n"}
    model: Any = kind(config, ch=3, nc=len(classes), verbose=False)
    model.args = get_cfg()
    model.names = dict(enumerate(classes))
    model.train()
    network: nn.Module = model
    return network


def copy_layers(model: nn.Module, folder: Path, *, layers: int) -> None:
    """Copy the weights of the first `layers` layers from a converted model of the same architecture.

    Raises:
        RuntimeError: that model has none of these layers.
    """
    weights = load_file(folder / WEIGHTS)
    prefixes = tuple(f"model.{number}." for number in range(layers))
    wanted = {name for name in model.state_dict() if name.startswith(prefixes)}
    model.load_state_dict({name: weights[name] for name in wanted & weights.keys()}, strict=False)
    if not wanted & weights.keys():
        raise RuntimeError(f"The model in {folder} has none of these layers.")


def save(model: nn.Module, path: Path, *, side: int, task: str) -> None:
    """Write a checkpoint. `side` is the side of the training images in pixels."""
    args = {"imgsz": side, "task": task}
    torch.save({"model": model.half(), "train_args": args, "epoch": -1}, path)
