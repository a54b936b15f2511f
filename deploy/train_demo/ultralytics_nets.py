"""Networks of Ultralytics, small and untrained, and checkpoints as its own trainer writes them.

That trainer needs torchvision, of which there is no build everywhere; its models and losses do not.
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

# Depth and width, in parts of the largest YOLO11: about half a million parameters.
_SCALE = [0.33, 0.125, 512]


def build(kind: type[nn.Module], description: str, classes: tuple[str, ...]) -> nn.Module:
    """Return an untrained model of `kind`, of one of the descriptions that Ultralytics has of YOLO11."""
    path = Path(ultralytics.__file__).parent / "cfg/models/11" / description
    known = yaml.safe_load(path.read_text())
    config = {**known, "nc": len(classes), "scales": {"n": _SCALE}, "scale": "n"}
    model: Any = kind(config, ch=3, nc=len(classes), verbose=False)
    model.args = get_cfg()
    model.names = dict(enumerate(classes))
    model.train()
    built: nn.Module = model
    return built


def take_over(model: nn.Module, folder: Path, *, layers: int) -> None:
    """Put in what a converted model of the same description has learnt, of the first `layers` layers.

    Raises RuntimeError where that model has none of them.
    """
    known = load_file(folder / WEIGHTS)
    begins = tuple(f"model.{number}." for number in range(layers))
    wanted = {name for name in model.state_dict() if name.startswith(begins)}
    model.load_state_dict({name: known[name] for name in wanted & known.keys()}, strict=False)
    if not wanted & known.keys():
        raise RuntimeError(f"The model in {folder} has none of these layers.")


def save(model: nn.Module, path: Path, *, side: int, task: str) -> None:
    """Write a checkpoint: what a seller would upload. `side` is that of the pictures it learnt from."""
    args = {"imgsz": side, "task": task}
    torch.save({"model": model.half(), "train_args": args, "epoch": -1}, path)
