"""Encode results as files: choose the format, and write no metadata."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from workers.media.decode import CONTENT_TYPES, SUFFIXES, Facts
from workers.media.pixel_coding import PixelCoding

Format = Literal["JPEG", "PNG", "WEBP", "TIFF"]
FALLBACK = "PNG"
DEFAULT_QUALITY = 90


@dataclass(frozen=True)
class OutputOptions:
    """Output format and quality of results.

    `format` None: the operation's hint, else the input's format. `quality` None: `default_quality`, and
    lossless if the input is lossless.
    """

    format: Format | None = None
    quality: int | None = None
    default_quality: int = DEFAULT_QUALITY

    def is_lossless(self, coding: PixelCoding) -> bool:
        """Return whether the result of an input with this coding is written losslessly."""
        return coding.is_lossless and self.format is None and self.quality is None


@dataclass(frozen=True)
class OutputFile:
    """One file of a result. `suffix` includes the dot. `width` and `height` are None for text and data."""

    label: str
    suffix: str
    content_type: str
    data: bytes
    width: int | None = None
    height: int | None = None


def choose_format(image: Image.Image, hint: str | None, source: Facts, options: OutputOptions) -> str:
    """Return a format that supports the image. JPEG has no transparency, palettes or bilevel images."""
    wanted = options.format or hint or source.format or FALLBACK
    if wanted == "AVIF":
        # Encoding AVIF takes seconds. Every program reads PNG and JPEG.
        wanted = "PNG" if options.is_lossless(source.coding) else "JPEG"
    if wanted not in CONTENT_TYPES:
        wanted = FALLBACK
    if wanted == "JPEG" and options.format is None and (has_alpha(image) or image.mode in ("1", "P")):
        return "PNG"
    return wanted


def encode_image(
    image: Image.Image, format: str, options: OutputOptions, coding: PixelCoding, label: str = "image"
) -> OutputFile:
    """Encode the pixels without EXIF, location or comments. The color space is sRGB.

    Args:
        coding: pixel coding of the input image.
    """
    fitted = _fit_mode(image, format)
    keep: dict[str | tuple[int, int], Any] = (
        {"transparency": fitted.info["transparency"]} if "transparency" in fitted.info else {}
    )
    if fitted.info != keep or hasattr(fitted, "tag_v2"):
        fitted = fitted.copy()
        fitted.info = keep
    target = io.BytesIO()
    fitted.save(target, format, **_settings(format, fitted, options, coding))
    return OutputFile(
        label, SUFFIXES[format], CONTENT_TYPES[format], target.getvalue(), image.width, image.height
    )


def encode_text(label: str, text: str) -> OutputFile:
    """Return a UTF-8 text file."""
    return OutputFile(label, ".txt", "text/plain", text.encode())


def encode_data(label: str, data: Any) -> OutputFile:
    """Return a JSON file, in UTF-8."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return OutputFile(label, ".json", "application/json", written.encode())


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA") or "transparency" in image.info


def _settings(format: str, image: Image.Image, options: OutputOptions, coding: PixelCoding) -> dict[str, Any]:
    quality = options.default_quality if options.quality is None else options.quality
    if format == "JPEG":
        # Keep the input's chroma subsampling, because 4:2:0 distorts saturated colors.
        chroma = {"subsampling": coding.chroma} if image.mode == "RGB" else {}
        return {"quality": quality, **chroma}
    if format == "WEBP" and options.is_lossless(coding):
        # A third of the next method's time for 5 % more bytes, and faster than lossy encoding.
        return {"lossless": True, "quality": 0, "method": 0, "exact": image.mode == "RGBA"}
    if format == "WEBP":
        return {"quality": quality, "method": 2}
    # Level 1 takes a third of the default's time for 10 % more bytes.
    return {"compress_level": 1} if format == "PNG" else {"compression": "tiff_deflate"}


def _fit_mode(image: Image.Image, format: str) -> Image.Image:
    if format == "JPEG":
        return _flatten(image)
    if format == "WEBP" and image.mode not in ("RGB", "RGBA"):
        return image.convert("RGBA" if has_alpha(image) else "RGB")
    return image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else image.convert("RGB")


def _flatten(image: Image.Image) -> Image.Image:
    if not has_alpha(image):
        return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")
    whole = image.convert("RGBA")
    white = Image.new("RGBA", whole.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, whole).convert("RGB")
