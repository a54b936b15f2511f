"""Small test images."""

import io

import numpy as np
from PIL import Image


def draw(width: int = 320, height: int = 240, *, seed: int = 0) -> Image.Image:
    """Return an RGB image with smooth colors, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def picture_bytes(
    format: str = "JPEG", width: int = 320, height: int = 240, *, seed: int = 0, **options: object
) -> bytes:
    out = io.BytesIO()
    draw(width, height, seed=seed).save(out, format, **options)
    return out.getvalue()
