"""Training images of image-to-image models: drawn scenes with edges, textures and light as in photos."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Floats = NDArray[np.float32]
# Scenes are drawn at this multiple of the size and reduced, so that edges are as soft as in photos.
_OVERSAMPLE = 2
_WORDS = ("Tea", "open", "No 7", "Gate", "18:45", "Platform", "flour", "Exit", "mild", "RIVER", "km", "&")


def draw_scene(seed: int, side: int) -> Image.Image:
    """Return the square image of a seed.

    Args:
        side: side of the image in pixels.
    """
    random = np.random.default_rng(seed)
    size = side * _OVERSAMPLE
    picture = _fill(random, size)
    for _ in range(int(random.integers(5, 14))):
        _add_thing(random, picture)
    _add_strokes(random, picture)
    _add_words(random, picture)
    if random.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 2.5))))
    picture = picture.resize((side, side), Image.Resampling.BOX)
    grain = random.normal(0, float(random.uniform(0, 3)), (side, side, 1))
    lit = np.asarray(picture, np.float32) * _light(random, side)
    return _to_image(lit + grain.astype(np.float32))


def _add_thing(random: np.random.Generator, picture: Image.Image) -> None:
    """Paint a filled outline on the image, sometimes with a shadow."""
    size = picture.width
    outline = _outline(random, size)
    cut = Image.new("L", picture.size)
    ImageDraw.Draw(cut).polygon(outline, fill=255)
    if random.random() < 0.4:
        shadow = cut.filter(ImageFilter.GaussianBlur(size / 40))
        dark = Image.new("RGB", picture.size, _color(random, most=60))
        fall = int(size / 50)
        picture.paste(dark, (fall, fall), shadow.point(lambda value: value // 2))
    if random.random() < 0.25:
        cut = cut.filter(ImageFilter.GaussianBlur(float(random.uniform(1, 8))))
    picture.paste(_fill(random, size), (0, 0), cut)


def _outline(random: np.random.Generator, size: int) -> list[tuple[float, float]]:
    """Return a polygon, an ellipse or a blob, anywhere in the image."""
    corners = int(random.choice([3, 4, 5, 6, 60, 60]))
    angles = np.sort(random.uniform(0, math.tau, corners)) if corners < 60 else np.linspace(0, math.tau, 60)
    wobble = random.uniform(0, 0.3) * np.sin(int(random.integers(2, 6)) * angles + random.uniform(0, 6))
    radius = size * random.uniform(0.06, 0.35) * (1 + (wobble if corners == 60 else 0 * wobble))
    x, y = random.uniform(0, size, 2)
    flat, turn = random.uniform(0.4, 1), random.uniform(0, math.tau)
    across, down = radius * np.cos(angles), flat * radius * np.sin(angles)
    xs = x + across * math.cos(turn) - down * math.sin(turn)
    ys = y + across * math.sin(turn) + down * math.cos(turn)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _fill(random: np.random.Generator, size: int) -> Image.Image:
    """Return a square of one material: plain, shaded, striped, checked, or rough at all scales."""
    kinds: tuple[Callable[[np.random.Generator, int], Floats], ...] = (_shade, _stripe, _check, _roughen)
    kind = kinds[int(random.choice(4, p=[0.4, 0.15, 0.1, 0.35]))]
    first, second = (np.asarray(_color(random), np.float32) for _ in range(2))
    if random.random() < 0.6:
        # Most objects have one hue, in light and dark shades.
        second = first * np.float32(random.uniform(0.5, 1.4))
    mix = kind(random, size)[..., None]
    return _to_image(first + (second - first) * mix)


def _shade(random: np.random.Generator, size: int) -> Floats:
    return _enlarge(random.random((2, 2)), size)


def _stripe(random: np.random.Generator, size: int) -> Floats:
    return (np.sin(_ramp(random, size)) > random.uniform(-0.7, 0.7)).astype(np.float32)


def _check(random: np.random.Generator, size: int) -> Floats:
    turn = random.uniform(0, math.pi)
    step = random.uniform(5, 30)
    across, down = (_ramp(random, size, turn + quarter, step) for quarter in (0, math.pi / 2))
    return (np.sin(across) * np.sin(down) > 0).astype(np.float32)


def _roughen(random: np.random.Generator, size: int) -> Floats:
    """Return fractal noise, weaker at finer scales, as in bark, clouds and stone."""
    falls = random.uniform(0.45, 0.85)
    total = np.zeros((size, size), np.float32)
    cells, weight = 3, 1.0
    while cells < size:
        stretched = (cells, max(2, int(cells * random.uniform(0.5, 1))))
        total += np.float32(weight) * _enlarge(random.random(stretched) - 0.5, size)
        cells, weight = cells * 2, weight * falls
    mix: Floats = np.clip(total + np.float32(0.5), 0, 1)
    return mix


def _ramp(
    random: np.random.Generator, size: int, turn: float | None = None, step: float | None = None
) -> Floats:
    """Return the phase at each pixel in radians. It rises by 2 pi per `step` pixels in direction `turn`."""
    turn = random.uniform(0, math.pi) if turn is None else turn
    step = random.uniform(5, 40) if step is None else step
    down, across = np.mgrid[0:size, 0:size].astype(np.float32)
    along = across * np.float32(math.cos(turn)) + down * np.float32(math.sin(turn))
    ramp: Floats = along * np.float32(math.tau / step) + np.float32(random.uniform(0, math.tau))
    return ramp


def _add_strokes(random: np.random.Generator, picture: Image.Image) -> None:
    """Draw thin curves, like hair, wires and twigs."""
    brush, size = ImageDraw.Draw(picture), picture.width
    for _ in range(int(random.integers(0, 12))):
        points = np.cumsum(random.normal(0, size / 14, (8, 2)), 0) + random.uniform(0, size, 2)
        line = [(float(x), float(y)) for x, y in points]
        brush.line(line, fill=_color(random), width=int(random.integers(1, 7)), joint="curve")


def _add_words(random: np.random.Generator, picture: Image.Image) -> None:
    brush, size = ImageDraw.Draw(picture), picture.width
    for _ in range(int(random.integers(0, 4))):
        font = ImageFont.load_default(float(random.uniform(14, 60)))
        place = (float(random.uniform(0, 0.8 * size)), float(random.uniform(0, 0.9 * size)))
        brush.text(place, str(random.choice(_WORDS)), fill=_color(random), font=font)


def _light(random: np.random.Generator, side: int) -> Floats:
    """Return the brightness of the light at each pixel, as (side, side, 1)."""
    return np.float32(0.7) + np.float32(0.4) * _enlarge(random.random((2, 2)), side)[..., None]


def _enlarge(cells: NDArray[np.floating], size: int) -> Floats:
    image = Image.fromarray(cells.astype(np.float32))
    enlarged: Floats = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return enlarged


def _color(random: np.random.Generator, most: int = 255) -> tuple[int, int, int]:
    """Return a color, usually a muted one."""
    gray = random.uniform(0, most)
    spread = random.choice([20, 60, 160])
    red, green, blue = (int(np.clip(gray + random.uniform(-spread, spread), 0, most)) for _ in range(3))
    return red, green, blue


def _to_image(pixels: Floats) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
