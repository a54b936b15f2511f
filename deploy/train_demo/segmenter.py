"""Shapes segmenter: a small YOLO11 that predicts boxes and masks.

It is fine-tuned from the stored detector, on the same kind of images with masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from ultralytics.nn import tasks

from deploy.train_demo import detector, learning, ultralytics_nets
from deploy.train_demo.detector import LEAST_CONFIDENCE, TESTED_SIDE
from deploy.train_demo.measuring import Measured, run
from deploy.train_demo.pictures import shapes as pictures
from deploy.train_demo.pictures.shapes import CLASSES
from deploy.train_demo.precision import Bits, mean_average_precision, share_pixels

LEARNING_RATE = 1.5e-3
# Training uses seeds from here upwards. Test images use lower seeds.
FIRST_SEED = 5_000_000
# All layers of the detector. The layers of the masks are new.
_LAYERS = 24


def build() -> nn.Module:
    """Return the untrained model."""
    return ultralytics_nets.build(tasks.SegmentationModel, "yolo11-seg.yaml", CLASSES)


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for `steps` steps."""
    torch.manual_seed(0)
    model = build()
    ultralytics_nets.copy_layers(model, detector.STORED_MODEL, layers=_LAYERS)
    return learning.fit(model, _loss_of, steps, rate=LEARNING_RATE, say=say)


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint in the format of Ultralytics."""
    ultralytics_nets.save(model, path, side=detector.SIDE, task="segment")


def measure(folder: Path, count: int) -> Measured:
    """Return mAP50 of masks on `count` test images."""
    found, truth = [], []
    for seed in range(count):
        picture, shapes = pictures.draw(seed, TESTED_SIDE)
        answer: Any = run(folder, picture, confidence=LEAST_CONFIDENCE).data
        found.append(
            [(one["confidence"], one["class_id"], _fill(one["points"])) for one in answer["predictions"]]
        )
        marks = pictures.mark(shapes, TESTED_SIDE)
        truth.append([(shape.class_id, marks == number) for number, shape in enumerate(shapes, start=1)])
    return Measured(mean_average_precision(found, truth, share_pixels, classes=len(CLASSES)))


def _fill(points: list[dict[str, float]]) -> Bits:
    """Return the mask (side, side) of an outline."""
    filled = Image.new("1", (TESTED_SIDE, TESTED_SIDE))
    if len(points) > 1:
        ImageDraw.Draw(filled).polygon([(point["x"], point["y"]) for point in points], fill=1)
    return np.asarray(filled)


def _loss_of(model: nn.Module, step: int) -> Tensor:
    first = FIRST_SEED + step * detector.BATCH
    loss: Tensor = model(detector.batch_of(range(first, first + detector.BATCH)))[0].sum()
    return loss
