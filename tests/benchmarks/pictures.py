"""Benchmark images: drawn, each different, as hard to decode as photos."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 2464, 1632
FOLDER = Path(__file__).parents[2] / ".cache" / "bench-pictures"


def draw_picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A gradient sky, octaves of noise, shapes with soft shadows, and a little grain."""
    rng = np.random.default_rng(seed)
    image = _add_octaves(_draw_gradient(rng, size), rng)
    image = _draw_shapes(image, rng)
    grain = Image.effect_noise(size, rng.uniform(20, 40)).convert("RGB")
    return Image.blend(image, grain, rng.uniform(0.12, 0.24))


def encode_picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    from io import BytesIO

    target = BytesIO()
    quality = int(np.random.default_rng(seed + 1).integers(85, 94))
    draw_picture(seed, size).save(target, "JPEG", quality=quality)
    return target.getvalue()


def load_pictures(count: int) -> list[Path]:
    """Paths of `count` JPEGs of 4 megapixels, drawn on first use."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = [FOLDER / f"{seed:04d}.jpg" for seed in range(count)]
    missing = [seed for seed, path in enumerate(paths) if not path.exists()]
    if missing:
        print(f"drawing {len(missing)} pictures into {FOLDER} …", file=sys.stderr)
    for seed in missing:
        paths[seed].write_bytes(encode_picture(seed))
    return paths


def _draw_gradient(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    corners = rng.integers(20, 236, (2, 2, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)


def _add_octaves(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Noise whose strength falls with its frequency, as in photographs."""
    width, height = image.size
    for cells in (4, 12, 36, 110, 330, 900):
        shape = (max(2, cells * height // width), cells, 3)
        # Mostly light and shade, some color.
        values = 0.75 * rng.integers(0, 256, shape[:2])[..., None] + 0.25 * rng.integers(0, 256, shape)
        noise = Image.fromarray(values.astype(np.uint8))
        layer = noise.resize(image.size, Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, min(0.35, 1.1 / cells**0.42))
    return image


def _draw_shapes(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(12, 40))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(width // 40, width // 5), rng.integers(height // 40, height // 5)
        fill = tuple(int(code) for code in rng.integers(0, 256, 3))
        kind = rng.integers(3)
        if kind == 0:
            draw.ellipse((x, y, x + w, y + h), fill=fill)
        elif kind == 1:
            draw.rectangle((x, y, x + w, y + h), fill=fill)
        else:
            draw.line((x, y, x + w, y + h), fill=fill, width=int(rng.integers(2, 30)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
