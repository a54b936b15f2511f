"""Ultralytics checkpoints of each task, with random weights and few classes."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

SIDE = 64
CLASSES = {0: "cat", 1: "dog"}
_MODELS = {
    "-seg": "SegmentationModel",
    "-pose": "PoseModel",
    "-obb": "OBBModel",
    "-cls": "ClassificationModel",
}


def quiet() -> None:
    """Keep Ultralytics from asking the network, and from writing settings into a home folder."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="ipau-ultralytics-"))


# A detector of eight layers, for what does not depend on which network it is.
TINY = {
    "nc": len(CLASSES),
    "scale": "n",
    "scales": {"n": [0.5, 0.25, 1024]},
    "yaml_file": "yolo11n.yaml",
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 2, "C3k2", [64, False, 0.25]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "SPPF", [128, 5]],
        [-1, 1, "Conv", [128, 3, 2]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [[7, 5], 1, "Detect", ["nc"]],
    ],
}


def make_model(name: str | dict[str, Any]) -> Any:
    """Return a model of a description, or of one of Ultralytics' («yolo11n-seg»), with seeded weights."""
    quiet()
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(7)
    torch.set_num_threads(1)
    kind = next((kind for suffix, kind in _MODELS.items() if str(name).endswith(suffix)), "DetectionModel")
    description = copy.deepcopy(name) if isinstance(name, dict) else f"{name}.yaml"
    model = getattr(tasks, kind)(description, ch=3, nc=len(CLASSES), verbose=False)
    _liven(model)
    model.names = dict(CLASSES)
    model.args = {"imgsz": SIDE}
    return model


def save(model: Any, path: Path, **more: Any) -> Path:
    """Write a checkpoint as Ultralytics' trainer does: half precision, the model as an object."""
    import torch

    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": copy.deepcopy(model).half(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {"imgsz": SIDE, "data": "animals.yaml"},
        "version": "8.4.190",
        **more,
    }
    torch.save(checkpoint, path)
    return path


def load_plainly(path: Path) -> Any:
    """Return the model as Ultralytics itself would: unpickled, in 32 bits, ready to run."""
    import torch

    return torch.load(path, weights_only=False)["model"].float().eval()


def _liven(model: Any) -> None:
    """Give batch normalization numbers as a training leaves them: zeros and ones would hide faults."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.weight.data.uniform_(0.9, 1.1)
            module.bias.data.normal_(0, 0.1)
