"""Shapes classifier: a small YOLO11 that classifies the shape in an image.

Training starts with the first layers of the stored detector, which respond to edges and corners.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from ultralytics.nn import tasks

from deploy.train_demo import detector, learning, ultralytics_nets
from deploy.train_demo.detector import stack
from deploy.train_demo.measuring import Measured, top1_accuracy
from deploy.train_demo.pictures import shapes
from deploy.train_demo.pictures.shapes import CLASSES

SIDE = 64
BATCH = 48
LEARNING_RATE = 2e-3
# Training uses seeds from here upwards. Test images use lower seeds.
FIRST_SEED = 3_000_000
TESTED_SIDE = 160
# Layers that a detector and a classifier of this size have in common.
_LAYERS = 9


def build() -> nn.Module:
    """Return the untrained model."""
    return ultralytics_nets.build(tasks.ClassificationModel, "yolo11-cls.yaml", CLASSES)


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for `steps` steps."""
    torch.manual_seed(0)
    model = build()
    ultralytics_nets.copy_layers(model, detector.STORED_MODEL, layers=_LAYERS)
    return learning.fit(model, _loss_of, steps, rate=LEARNING_RATE, say=say)


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint in the format of Ultralytics."""
    ultralytics_nets.save(model, path, side=SIDE, task="classify")


def measure(folder: Path, count: int) -> Measured:
    """Return the top-1 accuracy on `count` test images."""
    return top1_accuracy(folder, _draw, count)


def _draw(seed: int) -> tuple[Image.Image, int]:
    picture, shape = shapes.draw_one(seed, TESTED_SIDE)
    return picture, shape.class_id


def _loss_of(model: nn.Module, step: int) -> Tensor:
    first = FIRST_SEED + step * BATCH
    drawn = [shapes.draw_one(seed, SIDE) for seed in range(first, first + BATCH)]
    batch = {
        "img": stack([picture for picture, _ in drawn]),
        "cls": torch.tensor([shape.class_id for _, shape in drawn]),
    }
    loss: Tensor = model(batch)[0]
    return loss
