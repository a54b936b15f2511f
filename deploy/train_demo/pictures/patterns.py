"""Training images of the pattern classifier: one pattern each, at any angle, size and color."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float64]
PATTERNS = ("bricks", "checks", "dots", "rings", "stripes", "waves")
# Patterns are drawn at this multiple of the size and reduced, so that edges are as soft as in photos.
_OVERSAMPLE = 2
# Number of repetitions of a pattern along the side of an image.
_LEAST_REPEATS, _MOST_REPEATS = 2.5, 6.0


def draw_pattern(seed: int, side: int) -> tuple[Image.Image, int]:
    """Return the square image of a seed, and the index of its pattern.

    Args:
        side: side of the image in pixels.
    """
    random = np.random.default_rng(seed)
    kind = int(random.integers(len(PATTERNS)))
    size = side * _OVERSAMPLE
    across, down = _turn(random, size)
    mix = _DRAWN[PATTERNS[kind]](random, across, down)[..., None]
    light = random.uniform(0.6, 1) + random.uniform(-0.3, 0.3) * (across + down)[..., None] / _MOST_REPEATS
    dark, bright = _colors(random)
    picture = Image.fromarray(np.clip((dark + (bright - dark) * mix) * light, 0, 255).astype(np.uint8))
    soft = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 1.5))))
    reduced = np.asarray(soft.resize((side, side), Image.Resampling.BOX), np.float32)
    noise = random.normal(0, float(random.uniform(0, 16)), reduced.shape)
    return Image.fromarray(np.clip(reduced + noise, 0, 255).astype(np.uint8)), kind


def _turn(random: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Return coordinates along two perpendicular axes, in repetitions of the pattern."""
    repeats = random.uniform(_LEAST_REPEATS, _MOST_REPEATS)
    turn = random.uniform(0, math.tau)
    line = (np.arange(size) / size - 0.5) * repeats
    x, y = line[None, :], line[:, None]
    across = x * math.cos(turn) + y * math.sin(turn) + random.random()
    down = y * math.cos(turn) - x * math.sin(turn) + random.random()
    return across, down


def _bricks(random: np.random.Generator, across: Floats, down: Floats) -> Floats:
    joint, flat = random.uniform(0.06, 0.14), random.uniform(1.6, 2.2)
    row = np.floor(down * flat)
    shifted = across + 0.5 * (row % 2)
    return ((shifted % 1 > joint) & (down * flat % 1 > joint * flat)).astype(float)


def _checks(_: np.random.Generator, across: Floats, down: Floats) -> Floats:
    squares: Floats = (np.floor(across * 2) + np.floor(down * 2)) % 2
    return squares


def _dots(random: np.random.Generator, across: Floats, down: Floats) -> Floats:
    apart = np.hypot(across % 1 - 0.5, down % 1 - 0.5)
    return (apart < random.uniform(0.2, 0.36)).astype(float)


def _rings(random: np.random.Generator, across: Floats, down: Floats) -> Floats:
    x, y = (axis.mean() + random.uniform(-0.8, 0.8) for axis in (across, down))
    apart: Floats = np.hypot(across - x, down - y)
    return (apart % 1 < random.uniform(0.35, 0.65)).astype(float)


def _stripes(random: np.random.Generator, across: Floats, _: Floats) -> Floats:
    return (across % 1 < random.uniform(0.3, 0.7)).astype(float)


def _waves(random: np.random.Generator, across: Floats, down: Floats) -> Floats:
    bent = across + random.uniform(0.25, 0.45) * np.sin(down * random.uniform(3.5, 6))
    return (bent % 1 < random.uniform(0.35, 0.65)).astype(float)


_DRAWN: dict[str, Callable[[np.random.Generator, Floats, Floats], Floats]] = {
    "bricks": _bricks,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "stripes": _stripes,
    "waves": _waves,
}


def _colors(random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two distinguishable colors, in any order of brightness."""
    first = random.uniform(0, 255, 3)
    second = random.uniform(0, 255, 3)
    while abs(float((first - second).mean())) < 45:
        second = random.uniform(0, 255, 3)
    return first, second
