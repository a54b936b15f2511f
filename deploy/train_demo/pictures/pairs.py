"""Pairs of pictures to learn redrawing from: what a generator reads, and what it should write."""

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
# Makes a pair of the scene that a seed draws.
Make = Callable[[int], Pair]

SIDE = 192
# Seeds: training counts up from here, and scenes that are tested on lie below.
FIRST_SEED = 2_000_000
SCENES = 400


@dataclass(frozen=True)
class Pairs:
    """Scenes held in memory, of which training takes parts; `scale` is what is wanted over what is given."""

    given: list[Bytes]
    wanted: list[Bytes]
    scale: int

    @classmethod
    def draw(cls, make: Make) -> Pairs:
        """Draw all scenes."""
        pairs = [make(FIRST_SEED + number) for number in range(SCENES)]
        given, wanted = ([np.asarray(pair[which]) for pair in pairs] for which in (0, 1))
        return cls(given, wanted, len(wanted[0]) // len(given[0]))

    def take(self, step: int, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Return `count` squares as (n, 3, side, side) of 0 to 1, and what should become of them.

        Where they lie and how they are turned follows from the step alone.
        """
        random = np.random.default_rng((FIRST_SEED, step))
        taken = [self._take_one(random, side) for _ in range(count)]
        given, wanted = (_stack([pair[which] for pair in taken]) for which in (0, 1))
        return given, wanted

    def _take_one(self, random: np.random.Generator, side: int) -> tuple[Bytes, Bytes]:
        number = int(random.integers(len(self.given)))
        top, left = (int(v) for v in random.integers(0, len(self.given[number]) - side + 1, 2))
        turns, flipped = int(random.integers(4)), bool(random.integers(2))
        given = _cut(self.given[number], top, left, side)
        wanted = _cut(self.wanted[number], top * self.scale, left * self.scale, side * self.scale)
        first, second = (np.rot90(part[:, ::-1] if flipped else part, turns) for part in (given, wanted))
        return first, second


def compare(folder: Path, make: Make, count: int, plain: Callable[[Pair], Image.Image]) -> Measured:
    """Return how close a converted model comes to what is wanted of so many scenes, in decibels (PSNR).

    `plain` is what is done without one.
    """
    pairs = [make(seed) for seed in range(count)]
    learnt = [count_decibels(redraw(folder, given), wanted) for given, wanted in pairs]
    untaught = [count_decibels(plain((given, wanted)), wanted) for given, wanted in pairs]
    return Measured(float(np.mean(learnt)), float(np.mean(untaught)))


def redraw(folder: Path, image: Image.Image) -> Image.Image:
    """Return what a converted generator makes of a picture."""
    return Image.open(io.BytesIO(run(folder, image).files[0].data)).convert("RGB")


def count_decibels(found: Image.Image, wanted: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two pictures of the same size."""
    apart = np.asarray(found, np.float64) - np.asarray(wanted, np.float64)
    return float(10 * np.log10(255**2 / max(1e-9, float((apart**2).mean()))))


def save(net: nn.Module, path: Path) -> None:
    """Write the tensors alone, as a seller of such a network would upload them."""
    torch.save({"params_ema": net.state_dict()}, path)


def _cut(picture: Bytes, top: int, left: int, side: int) -> Bytes:
    return picture[top : top + side, left : left + side]


def _stack(parts: list[Bytes]) -> Tensor:
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float().div(255)
