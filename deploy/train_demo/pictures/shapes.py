"""Training images of the shape models: shapes on noisy backgrounds, with their outlines as labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("circle", "square", "triangle", "star")
# Images are drawn at this multiple of the size and reduced, so that edges are as soft as in photos.
OVERSAMPLE = 2
LEAST_SIDE, MOST_SIDE = 0.12, 0.42
# Size of a single shape, as a fraction of the image's side.
LEAST_FILLED, MOST_FILLED = 0.45, 0.9
# Shapes may touch, but none hides another.
MOST_OVERLAP = 0.1

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One shape: its class, and its outline in fractions of the image's side."""

    class_id: int
    outline: tuple[Point, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in fractions of the image's side."""
        xs, ys = zip(*self.outline, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def draw(seed: int, side: int, *, most: int = 5, only: int | None = None) -> tuple[Image.Image, list[Shape]]:
    """Return the square image of a seed, and the shapes in it.

    Args:
        side: side of the image in pixels.
        most: maximum number of shapes; the minimum is one.
        only: class of all shapes; None: any class.
    """
    random = np.random.default_rng(seed)
    picture = _background(random, side)
    shapes: list[Shape] = []
    for _ in range(int(random.integers(1, most + 1))):
        shape = _shape(random, only)
        if all(_overlap(shape.box, other.box) <= MOST_OVERLAP for other in shapes):
            shapes.append(shape)
            _paint(picture, shape, _color(random))
    return _photograph(random, picture, side), shapes


def draw_one(seed: int, side: int) -> tuple[Image.Image, Shape]:
    """Return a square image with one large shape, and that shape.

    Args:
        side: side of the image in pixels.
    """
    random = np.random.default_rng(seed)
    picture = _background(random, side)
    shape = _shape(random, None, LEAST_FILLED, MOST_FILLED)
    _paint(picture, shape, _color(random))
    return _photograph(random, picture, side), shape


def mark(shapes: list[Shape], side: int) -> np.ndarray:
    """Return a label map (side, side): the number of the shape at each pixel's center, from 1; 0 for none.

    Where shapes overlap, the one painted last counts.
    """
    fine = 5
    marks = Image.new("L", (side * fine, side * fine))
    for number, shape in enumerate(shapes, start=1):
        outline = [(x * marks.width, y * marks.height) for x, y in shape.outline]
        ImageDraw.Draw(marks).polygon(outline, fill=number)
    return np.asarray(marks)[fine // 2 :: fine, fine // 2 :: fine]


def _background(random: np.random.Generator, side: int) -> Image.Image:
    """Return a blurred coarse pattern of two colors, with a few lines."""
    size = side * OVERSAMPLE
    cells = int(random.integers(2, 9))
    mix = random.random((cells, cells, 1))
    pattern = mix * _color(random) + (1 - mix) * _color(random)
    picture = Image.fromarray(pattern.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(0, 5))):
        ends = [tuple(point) for point in random.integers(0, size, (2, 2)).tolist()]
        brush.line(ends, fill=_rgb(_color(random)), width=int(random.integers(1, 5)))
    return picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 3))))


def _photograph(random: np.random.Generator, picture: Image.Image, side: int) -> Image.Image:
    """Return the image reduced to `side`, with camera noise."""
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


def _paint(picture: Image.Image, shape: Shape, color: np.ndarray) -> None:
    size = picture.width
    outline = [(x * size, y * size) for x, y in shape.outline]
    ImageDraw.Draw(picture).polygon(outline, fill=_rgb(color), outline=_rgb(color * 0.6))


def _color(random: np.random.Generator) -> np.ndarray:
    return random.uniform(0, 255, 3)


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in color)
    return red, green, blue


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return the fraction of the smaller box that lies inside the other one."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
