"""Pictures to learn from: shapes on backgrounds that try to hide them, and where each shape lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("circle", "square", "triangle", "star")
# Corners are drawn at this multiple of a pixel and reduced, so that edges are as soft as a camera's.
OVERSAMPLE = 2
LEAST_SIDE, MOST_SIDE = 0.12, 0.42
# What a shape that is alone in its picture takes of it.
LEAST_FILLED, MOST_FILLED = 0.45, 0.9
# Two shapes may touch, but none hides another.
MOST_OVERLAP = 0.1

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One shape: its class, and its outline in parts of the picture's side."""

    class_id: int
    outline: tuple[Point, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in parts of the picture's side."""
        xs, ys = zip(*self.outline, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def draw(seed: int, side: int, *, most: int = 5, only: int | None = None) -> tuple[Image.Image, list[Shape]]:
    """Return a square picture and the shapes in it, always the same ones for a seed.

    Args:
        side: pixels.
        most: how many shapes there are at most; at least one.
        only: the class of all of them, where it is given.
    """
    random = np.random.default_rng(seed)
    picture = _background(random, side)
    shapes: list[Shape] = []
    for _ in range(int(random.integers(1, most + 1))):
        shape = _shape(random, only)
        if all(_overlap(shape.box, other.box) <= MOST_OVERLAP for other in shapes):
            shapes.append(shape)
            _paint(picture, shape, _colour(random))
    return _photograph(random, picture, side), shapes


def draw_one(seed: int, side: int) -> tuple[Image.Image, Shape]:
    """Return a square picture that one shape fills for the most part, and that shape.

    Args:
        side: pixels.
    """
    random = np.random.default_rng(seed)
    picture = _background(random, side)
    shape = _shape(random, None, LEAST_FILLED, MOST_FILLED)
    _paint(picture, shape, _colour(random))
    return _photograph(random, picture, side), shape


def mark(shapes: list[Shape], side: int) -> np.ndarray:
    """Return which shape each pixel of a square picture shows, as (side, side): 1 for the first, 0 for none.

    A pixel is what its centre shows; of two shapes the one that was painted last.
    """
    fine = 5
    marks = Image.new("L", (side * fine, side * fine))
    for number, shape in enumerate(shapes, start=1):
        outline = [(x * marks.width, y * marks.height) for x, y in shape.outline]
        ImageDraw.Draw(marks).polygon(outline, fill=number)
    return np.asarray(marks)[fine // 2 :: fine, fine // 2 :: fine]


def _background(random: np.random.Generator, side: int) -> Image.Image:
    """A coarse pattern of two colours, softened, with a few lines across."""
    size = side * OVERSAMPLE
    cells = int(random.integers(2, 9))
    mix = random.random((cells, cells, 1))
    pattern = mix * _colour(random) + (1 - mix) * _colour(random)
    picture = Image.fromarray(pattern.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(0, 5))):
        ends = [tuple(point) for point in random.integers(0, size, (2, 2)).tolist()]
        brush.line(ends, fill=_rgb(_colour(random)), width=int(random.integers(1, 5)))
    return picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 3))))


def _photograph(random: np.random.Generator, picture: Image.Image, side: int) -> Image.Image:
    """The picture at its side, with the noise of a camera."""
    picture = picture.resize((side, side), Image.Resampling.BOX)
    noise = random.normal(0, float(random.uniform(0, 12)), (side, side, 3))
    pixels = np.clip(np.asarray(picture, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _shape(
    random: np.random.Generator, only: int | None, least: float = LEAST_SIDE, most: float = MOST_SIDE
) -> Shape:
    class_id = int(random.integers(len(CLASSES))) if only is None else only
    radius = float(random.uniform(least, most)) / 2
    x, y = (float(v) for v in random.uniform(radius, 1 - radius, 2))
    turn = float(random.uniform(0, 2 * math.pi))
    corners = {
        "circle": [(radius, n * math.tau / 48) for n in range(48)],
        "square": [(radius, n * math.tau / 4) for n in range(4)],
        "triangle": [(radius, n * math.tau / 3) for n in range(3)],
        "star": [(radius if n % 2 == 0 else 0.42 * radius, n * math.tau / 10) for n in range(10)],
    }[CLASSES[class_id]]
    outline = tuple((x + r * math.cos(turn + a), y + r * math.sin(turn + a)) for r, a in corners)
    return Shape(class_id, outline)


def _paint(picture: Image.Image, shape: Shape, colour: np.ndarray) -> None:
    size = picture.width
    outline = [(x * size, y * size) for x, y in shape.outline]
    ImageDraw.Draw(picture).polygon(outline, fill=_rgb(colour), outline=_rgb(colour * 0.6))


def _colour(random: np.random.Generator) -> np.ndarray:
    return random.uniform(0, 255, 3)


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the part of the smaller box that lies in the other one."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
