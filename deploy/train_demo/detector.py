"""Shapes detector: a small YOLO11, trained from scratch.

Each step uses new images. None is used twice, and none is a test image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from ultralytics.nn import tasks

from deploy.train_demo import learning, ultralytics_nets
from deploy.train_demo.measuring import Measured, run
from deploy.train_demo.pictures import shapes as pictures
from deploy.train_demo.pictures.shapes import CLASSES, Shape
from deploy.train_demo.precision import Box, mean_average_precision, share_boxes

# The stored model. Training of other models starts with its layers.
STORED_MODEL = Path(__file__).resolve().parent.parent / "demo_models/shapes-detector/model"
SIDE = 160
BATCH = 16
LEARNING_RATE = 2e-3
# Training uses seeds from here upwards. Test images use lower seeds.
FIRST_SEED = 1_000_000
# Test images are larger than training images, because our code resizes the images of users too.
TESTED_SIDE = 320
# Detections below this confidence are ignored.
LEAST_CONFIDENCE = 0.05


def build() -> nn.Module:
    """Return the untrained model."""
    return ultralytics_nets.build(tasks.DetectionModel, "yolo11.yaml", CLASSES)


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for `steps` steps."""
    torch.manual_seed(0)
    return learning.fit(build(), _loss_of, steps, rate=LEARNING_RATE, say=say)


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint in the format of Ultralytics."""
    ultralytics_nets.save(model, path, side=SIDE, task="detect")


def measure(folder: Path, count: int) -> Measured:
    """Return mAP50 of boxes on `count` test images."""
    found: list[list[tuple[float, int, Box]]] = []
    truth: list[list[tuple[int, Box]]] = []
    for seed in range(count):
        picture, shapes = pictures.draw(seed, TESTED_SIDE)
        answer: Any = run(folder, picture, confidence=LEAST_CONFIDENCE).data
        found.append([_read_box(each) for each in answer["predictions"]])
        truth.append([(shape.class_id, shape.box) for shape in shapes])
    return Measured(mean_average_precision(found, truth, share_boxes, classes=len(CLASSES)))


def _read_box(found: dict[str, Any]) -> tuple[float, int, Box]:
    left, top = found["x"] - found["width"] / 2, found["y"] - found["height"] / 2
    box = (left, top, left + found["width"], top + found["height"])
    return found["confidence"], found["class_id"], tuple(value / TESTED_SIDE for value in box)


def _loss_of(model: nn.Module, step: int) -> Tensor:
    first = FIRST_SEED + step * BATCH
    loss: Tensor = model(batch_of(range(first, first + BATCH)))[0].sum()
    return loss


def batch_of(seeds: range) -> dict[str, Any]:
    """Return images with labels, in the format of Ultralytics' losses.

    `img`: (N, 3, SIDE, SIDE) in 0..1. `bboxes`: center and size as fractions of the side, in image
    `batch_idx`. `masks`: (N, SIDE / 4, SIDE / 4), the number of the shape in each cell, from 1.
    """
    drawn = [pictures.draw(seed, SIDE) for seed in seeds]
    found = [(index, shape) for index, (_, shapes) in enumerate(drawn) for shape in shapes]
    return {
        "img": stack([picture for picture, _ in drawn]),
        "batch_idx": torch.tensor([index for index, _ in found], dtype=torch.float32),
        "cls": torch.tensor([[shape.class_id] for _, shape in found], dtype=torch.float32),
        "bboxes": torch.tensor([_center_and_size(shape) for _, shape in found], dtype=torch.float32),
        "masks": torch.from_numpy(np.stack([pictures.mark(shapes, SIDE // 4) for _, shapes in drawn])),
    }


def stack(images: list[Image.Image]) -> Tensor:
    """Return images of one size as a tensor (n, 3, h, w) in 0..1."""
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(255)


def _center_and_size(shape: Shape) -> tuple[float, float, float, float]:
    left, top, right, bottom = shape.box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
