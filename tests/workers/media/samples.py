"""Pictures for tests, drawn here: every mode, every orientation, and hostile ones."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

ORIENTATION = 274
GPS = 34853


def draw(width: int = 96, height: int = 64, seed: int = 1) -> Image.Image:
    """Color that differs in each corner, with an edge and a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / max(1, width - 1)
    green = 255 * y / max(1, height - 1)
    blue = np.where((x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2, 230, 40)
    noise = rng.normal(0, 3, (height, width, 1))
    pixels = np.stack([red, green, blue], axis=-1) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: Image.Image, format: str, **settings: object) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **settings)
    return target.getvalue()


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def with_exif(image: Image.Image, format: str = "JPEG", orientation: int = 1, **settings: object) -> bytes:
    """With an orientation, a comment and a place."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[270] = "SECRET-DESCRIPTION"
    exif.get_ifd(GPS).update({1: "N", 2: (13.0, 45.0, 21.0), 3: "E", 4: (100.0, 30.0, 5.0)})
    return encode(image, format, exif=exif, **settings)


_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def lay_down(upright: Image.Image, orientation: int) -> Image.Image:
    """How a camera that writes this orientation stores an upright picture."""
    return upright.transpose(_UNDO[orientation]) if orientation in _UNDO else upright


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def claim_png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A tiny PNG whose header claims any size."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + png_chunk(b"IEND", b"")


def kinds() -> dict[str, bytes]:
    """One file of each kind that must work everywhere."""
    rgb = draw()
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1)))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    palette = rgb.quantize(16)
    palette.info["transparency"] = 3
    deep = Image.fromarray((np.arange(96 * 64, dtype=np.uint32) * 10).astype(np.uint16).reshape(64, 96))
    return {
        "jpeg": encode(rgb, "JPEG", quality=90),
        "jpeg gray": encode(rgb.convert("L"), "JPEG"),
        "jpeg cmyk": encode(rgb.convert("CMYK"), "JPEG"),
        "jpeg progressive": encode(rgb, "JPEG", progressive=True),
        "jpeg rotated": with_exif(lay_down(rgb, 6), orientation=6),
        "png": encode(rgb, "PNG"),
        "png alpha": encode(rgba, "PNG"),
        "png gray alpha": encode(rgba.convert("LA"), "PNG"),
        "png palette alpha": encode(palette, "PNG"),
        "png 1 bit": encode(rgb.convert("1"), "PNG"),
        "png 16 bit": encode(deep, "PNG"),
        "tiff": encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff 16 bit": encode(deep, "TIFF"),
        "tiff cmyk": encode(rgb.convert("CMYK"), "TIFF"),
        "webp": encode(rgb, "WEBP"),
        "webp alpha": encode(rgba, "WEBP", lossless=True),
        "avif": encode(rgb, "AVIF", speed=10),
        "avif alpha": encode(rgba, "AVIF", speed=10),
        "one pixel": encode(draw(1, 1), "PNG"),
        "one pixel jpeg": encode(draw(1, 1), "JPEG"),
        "odd": encode(draw(37, 23), "JPEG"),
        "wide strip": encode(draw(900, 1), "PNG"),
        "tall strip": encode(draw(2, 700), "JPEG"),
    }


class Folder:
    """A set of pictures in memory."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self._files = list(files)
        self.opened = 0

    @property
    def key(self) -> str:
        return hashlib.sha256(b"".join(self._files)).hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def open(self, index: int, /) -> bytes:
        self.opened += 1
        return self._files[index]
