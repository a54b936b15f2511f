"""The classifier of shapes: a small YOLO11 that says which shape fills a picture.

It begins with the layers of the detector that is kept, which know edges and corners.
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
from deploy.train_demo.measuring import Measured, count_right
from deploy.train_demo.pictures import shapes
from deploy.train_demo.pictures.shapes import CLASSES

SIDE = 64
BATCH = 48
LEARNING_RATE = 2e-3
# Seeds: training counts up from here, and pictures that are tested on lie below.
FIRST_SEED = 3_000_000
TESTED_SIDE = 160
# Those that a detector and a classifier of this size have alike.
_LAYERS = 9


def build() -> nn.Module:
    """Return the untrained model."""
    return ultralytics_nets.build(tasks.ClassificationModel, "yolo11-cls.yaml", CLASSES)


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for so many steps."""
    torch.manual_seed(0)
    model = build()
    ultralytics_nets.take_over(model, detector.KEPT, layers=_LAYERS)
    return learning.fit(model, _loss_of, steps, rate=LEARNING_RATE, say=say)


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint as Ultralytics does: what a seller would upload."""
    ultralytics_nets.save(model, path, side=SIDE, task="classify")


def measure(folder: Path, count: int) -> Measured:
    """Return the part of so many pictures that it names right."""
    return count_right(folder, _draw, count)


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
