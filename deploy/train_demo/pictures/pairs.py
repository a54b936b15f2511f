"""Training pairs for image-to-image models: input and target."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from deploy.train_demo.measuring import Measured, run

Bytes = NDArray[np.uint8]
Pair = tuple[Image.Image, Image.Image]
# Returns the pair of a seed.
Make = Callable[[int], Pair]

SIDE = 192
# Training uses seeds from here upwards. Test scenes use lower seeds.
FIRST_SEED = 2_000_000
SCENES = 400


@dataclass(frozen=True)
class Pairs:
    """Scenes in memory, from which training takes crops. `scale` is the size of a target over its input."""

    inputs: list[Bytes]
    targets: list[Bytes]
    scale: int

    @classmethod
    def draw(cls, make: Make) -> Pairs:
        """Draw all scenes."""
        pairs = [make(FIRST_SEED + number) for number in range(SCENES)]
        inputs, targets = ([np.asarray(pair[which]) for pair in pairs] for which in (0, 1))
        return cls(inputs, targets, len(targets[0]) // len(inputs[0]))

    def take(self, step: int, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Return `count` square crops as (n, 3, side, side) in 0..1, and their targets.

        Position and orientation of the crops depend only on the step.
        """
        random = np.random.default_rng((FIRST_SEED, step))
        crops = [self._take_one(random, side) for _ in range(count)]
        inputs, targets = (_stack([pair[which] for pair in crops]) for which in (0, 1))
        return inputs, targets

    def _take_one(self, random: np.random.Generator, side: int) -> tuple[Bytes, Bytes]:
        number = int(random.integers(len(self.inputs)))
        top, left = (int(v) for v in random.integers(0, len(self.inputs[number]) - side + 1, 2))
        turns, flipped = int(random.integers(4)), bool(random.integers(2))
        crop = _crop(self.inputs[number], top, left, side)
        target = _crop(self.targets[number], top * self.scale, left * self.scale, side * self.scale)
        first, second = (np.rot90(part[:, ::-1] if flipped else part, turns) for part in (crop, target))
        return first, second


def compare(folder: Path, make: Make, count: int, plain: Callable[[Pair], Image.Image]) -> Measured:
    """Return the mean PSNR of a converted model's results to the targets of `count` scenes, in decibels.

    Args:
        plain: returns the baseline result without a model.
    """
    pairs = [make(seed) for seed in range(count)]
    trained = [psnr(run_generator(folder, image), target) for image, target in pairs]
    untaught = [psnr(plain((image, target)), target) for image, target in pairs]
    return Measured(float(np.mean(trained)), float(np.mean(untaught)))


def run_generator(folder: Path, image: Image.Image) -> Image.Image:
    """Return the result of a converted generator for an image."""
    return Image.open(io.BytesIO(run(folder, image).files[0].data)).convert("RGB")


def psnr(image: Image.Image, target: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two images of the same size, in decibels."""
    difference = np.asarray(image, np.float64) - np.asarray(target, np.float64)
    return float(10 * np.log10(255**2 / max(1e-9, float((difference**2).mean()))))


def save(net: nn.Module, path: Path) -> None:
    """Write a checkpoint with only the tensors."""
    torch.save({"params_ema": net.state_dict()}, path)


def _crop(picture: Bytes, top: int, left: int, side: int) -> Bytes:
    return picture[top : top + side, left : left + side]


def _stack(parts: list[Bytes]) -> Tensor:
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float().div(255)
