"""Black and white: grayscale conversion, contrast, thresholding and dithering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.plugin import Context, Kept, Operation, Params, PictureView, Result, choice, slider, toggle

_WEIGHTS = {"rec709": (0.2126, 0.7152, 0.0722), "average": (1 / 3, 1 / 3, 1 / 3)}
# Smallest threshold matrix of ordered dithering (Bayer 1973). The 8 x 8 matrix is built from it.
_BAYER_2 = np.array([[0, 2], [3, 1]])


class BlackWhiteParams(Params):
    method: Literal["rec601", "rec709", "average", "lightness"] = choice(
        "rec601",
        labels={
            "rec601": "Luma (Rec. 601)",
            "rec709": "Luma (Rec. 709)",
            "average": "Average",
            "lightness": "Perceived lightness (CIE L*)",
        },
        title="Grayscale method",
        help="How red, green and blue are weighted.",
    )
    contrast: int = slider(
        0,
        ge=-100,
        le=100,
        title="Contrast",
        help="Negative values reduce contrast, positive values increase it.",
        unit="%",
    )
    finish: Literal["gray", "threshold", "dither"] = choice(
        "gray",
        labels={
            "gray": "Grayscale",
            "threshold": "Threshold",
            "dither": "Dither",
        },
        title="Output mode",
        help="Grayscale, or only black and white pixels.",
    )
    auto_threshold: bool = toggle(
        True,
        title="Automatic threshold",
        help="Choose the threshold from the histogram (Otsu’s method).",
        show_if={"finish": ["threshold"]},
    )
    threshold: int = slider(
        128,
        ge=0,
        le=255,
        title="Threshold",
        help="Pixels at or above this brightness become white.",
        show_if={"finish": ["threshold"], "auto_threshold": [False]},
    )
    pattern: Literal["floyd-steinberg", "ordered"] = choice(
        "floyd-steinberg",
        labels={"floyd-steinberg": "Floyd–Steinberg", "ordered": "Ordered (Bayer 8 × 8)"},
        title="Dithering",
        help="How black and white pixels are arranged to look gray.",
        show_if={"finish": ["dither"]},
    )


class BlackWhite(Operation[BlackWhiteParams]):
    """Converts an image to grayscale, or to black and white pixels."""

    key = "blackwhite"
    title = "Black and white"
    summary = "Convert an image to grayscale or to pure black and white."
    description = (
        "Choose a **grayscale method** and the **contrast**. The output is grayscale, or black and white by "
        "threshold or dithering. "
        "Transparency is kept. Black and white results are PNG files."
    )
    tier = "basic"
    version = 1
    Params = BlackWhiteParams

    def keeps(self, params: BlackWhiteParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def run(self, picture: PictureView, params: BlackWhiteParams, context: Context) -> Result:
        alpha = picture.alpha()
        gray = _convert_to_gray(picture, params.method, flat=alpha is None)
        if params.contrast:
            gray = gray.point(_contrast_table(params.contrast))
        result = _finish(gray, params)
        hint = "PNG" if params.finish != "gray" else None
        if alpha is not None:
            result = Image.merge("LA", (result.convert("L"), alpha))
        return Result(image=result, format=hint)


def _convert_to_gray(picture: PictureView, method: str, *, flat: bool) -> Image.Image:
    """Return the brightness of each pixel, mode L."""
    if method == "rec601":
        return picture.gray(flat=flat)
    color = picture.rgb(flat=flat)
    if method == "lightness":
        return _lightness(color)
    red, green, blue = _WEIGHTS[method]
    return color.convert("L", (red, green, blue, 0))


def _contrast_table(contrast: int) -> list[int]:
    """Return a tone curve of 256 values: slope 0 at contrast -100, and 3 at 100, around mid gray."""
    slope = 1 + contrast / 100 if contrast < 0 else 1 + contrast / 50
    return [min(255, max(0, round(127.5 + (code - 127.5) * slope))) for code in range(256)]


def _finish(gray: Image.Image, params: BlackWhiteParams) -> Image.Image:
    if params.finish == "threshold":
        level = find_otsu_level(gray.histogram()) if params.auto_threshold else params.threshold
        return gray.point([255 if code >= level else 0 for code in range(256)], "1")
    if params.finish == "dither":
        return gray.convert("1") if params.pattern == "floyd-steinberg" else dither_ordered(gray)
    return gray


def find_otsu_level(histogram: list[int]) -> int:
    """Return the threshold that maximizes the variance between classes (Otsu 1979).

    Args:
        histogram: 256 counts.

    Returns:
        The first value of the brighter class, 1..255; 128 if all pixels have the same value.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mass = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = mass[:-1] / below - (mass[-1] - mass[:-1]) / above
        between = np.nan_to_num(below * above * gap**2)
    if not between.max() > 0:
        return 128
    # With empty bins between the classes, the maximum is a plateau. Use its middle.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return int((best[0] + best[-1]) // 2) + 1


def dither_ordered(gray: Image.Image) -> Image.Image:
    """Dither with a tiled 8 x 8 Bayer matrix. Mode L in, mode 1 out."""
    thresholds = _bayer(8)
    width, height = gray.size
    tiled = np.tile(thresholds, (-(-height // 8), -(-width // 8)))[:height, :width]
    return Image.fromarray((np.asarray(gray) > tiled).astype(np.uint8) * 255).convert(
        "1", dither=Image.Dither.NONE
    )


def _lightness(color: Image.Image) -> Image.Image:
    """Return CIE L* (ISO/CIE 11664-4) of sRGB pixels, scaled from 0..100 to 0..255. Uses lookup tables."""
    code = np.arange(256) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    steps = 65535
    tables = [np.rint(linear * weight * steps).astype(np.uint32) for weight in _WEIGHTS["rec709"]]
    luminance = np.arange(steps + 4) / steps
    cube = np.cbrt(luminance)
    lightness = np.where(luminance > (6 / 29) ** 3, 116 * cube - 16, luminance * (29 / 3) ** 3)
    to_code = np.clip(np.rint(lightness * 2.55), 0, 255).astype(np.uint8)
    pixels = np.asarray(color)
    total = tables[0][pixels[..., 0]]
    total += tables[1][pixels[..., 1]]
    total += tables[2][pixels[..., 2]]
    return Image.fromarray(to_code[total])


def _bayer(side: int) -> NDArray[np.uint8]:
    matrix = _BAYER_2
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    # Thresholds are 1..254, so pure black and pure white stay pure.
    return np.floor((matrix + 0.5) * 255 / side**2).astype(np.uint8)
