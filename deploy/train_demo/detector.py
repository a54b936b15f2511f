"""The detector of shapes: a small YOLO11, trained from nothing.

ultralytics' own trainer needs torchvision, of which there is no build everywhere; its models and losses do
not. So the loop is ours: fresh pictures in each step, none seen twice, none of those that are tested on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import ultralytics
import yaml
from PIL import Image
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks

from deploy.train_demo import pictures
from deploy.train_demo.pictures import CLASSES, Shape

SIDE = 160
BATCH = 16
# Depth and width, in parts of the largest YOLO11: about half a million parameters.
SCALE = [0.33, 0.125, 512]
LEARNING_RATE = 2e-3
# Seeds: training counts up from here, and pictures that are tested on lie below.
FIRST_SEED = 1_000_000


def build() -> nn.Module:
    """Return the untrained model."""
    known = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/models/11/yolo11.yaml").read_text())
    config = {**known, "nc": len(CLASSES), "scales": {"n": SCALE}, "scale": "n"}
    model: nn.Module = tasks.DetectionModel(config, ch=3, nc=len(CLASSES), verbose=False)
    model.args = get_cfg()
    model.names = dict(enumerate(CLASSES))
    return model


def train(steps: int, *, say: Callable[[str], None] = print) -> nn.Module:
    """Train a model for so many steps; return the moving average of its weights."""
    torch.manual_seed(0)
    model = build().train()
    mean = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    begun = time.monotonic()
    for step, batch in zip(range(steps), _batches(), strict=False):
        loss = model(batch)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        mean.update_parameters(model)
        if step % 100 == 99:
            spent = time.monotonic() - begun
            say(f"step {step + 1} of {steps}, loss {loss.item():.2f}, {spent:.0f} s")
    trained: nn.Module = mean.module
    trained.names, trained.args = model.names, model.args
    return trained.eval()


def save(model: nn.Module, path: Path) -> None:
    """Write a checkpoint as ultralytics does: what a seller would upload."""
    args = {"imgsz": SIDE, "task": "detect"}
    torch.save({"model": model.half(), "train_args": args, "epoch": -1}, path)


def _batches() -> Iterator[dict[str, Any]]:
    seed = FIRST_SEED
    while True:
        yield batch_of(range(seed, seed + BATCH))
        seed += BATCH


def batch_of(seeds: range) -> dict[str, Any]:
    """Return pictures and what is in them as ultralytics' losses read it.

    `img` is N x 3 x SIDE x SIDE in 0..1; `bboxes` are centre and size in parts of the side, of the picture
    `batch_idx`.
    """
    drawn = [pictures.draw(seed, SIDE) for seed in seeds]
    found = [(index, shape) for index, (_, shapes) in enumerate(drawn) for shape in shapes]
    return {
        "img": _tensor([picture for picture, _ in drawn]),
        "batch_idx": torch.tensor([index for index, _ in found], dtype=torch.float32),
        "cls": torch.tensor([[shape.class_id] for _, shape in found], dtype=torch.float32),
        "bboxes": torch.tensor([_centred(shape) for _, shape in found], dtype=torch.float32),
    }


def _tensor(images: list[Image.Image]) -> torch.Tensor:
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(255)


def _centred(shape: Shape) -> tuple[float, float, float, float]:
    left, top, right, bottom = shape.box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
