"""Black and white: several measures of brightness, contrast, threshold and dithering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.plugin import Context, Kept, Operation, Params, PictureView, Result, choice, slider, toggle

_WEIGHTS = {"rec709": (0.2126, 0.7152, 0.0722), "average": (1 / 3, 1 / 3, 1 / 3)}
# Bayer 1973: each level of the 8 x 8 pattern lights the pixel farthest from those already lit.
_BAYER_2 = np.array([[0, 2], [3, 1]])


class BlackWhiteParams(Params):
    method: Literal["rec601", "rec709", "average", "lightness"] = choice(
        "rec601",
        labels={
            "rec601": "Luma (Rec. 601)",
            "rec709": "Luma (Rec. 709)",
            "average": "Plain average",
            "lightness": "Perceived lightness (CIE L*)",
        },
        title="Grayscale method",
        help="How red, green and blue are weighed against each other.",
    )
    contrast: int = slider(
        0,
        ge=-100,
        le=100,
        title="Contrast",
        help="Below zero flattens towards mid gray, above zero steepens.",
        unit="%",
    )
    finish: Literal["gray", "threshold", "dither"] = choice(
        "gray",
        labels={
            "gray": "Shades of gray",
            "threshold": "Two tones, by threshold",
            "dither": "Two tones, dithered",
        },
        title="Finish",
        help="Shades of gray, or nothing but black and white.",
    )
    auto_threshold: bool = toggle(
        True,
        title="Automatic threshold",
        help="Cut where dark and light parts separate best (Otsu’s method).",
        show_if={"finish": ["threshold"]},
    )
    threshold: int = slider(
        128,
        ge=0,
        le=255,
        title="Threshold",
        help="Pixels at least this bright become white.",
        show_if={"finish": ["threshold"], "auto_threshold": [False]},
    )
    pattern: Literal["floyd-steinberg", "ordered"] = choice(
        "floyd-steinberg",
        labels={"floyd-steinberg": "Scattered (Floyd–Steinberg)", "ordered": "Regular grid (Bayer 8 × 8)"},
        title="Pattern",
        help="How black and white dots are laid to look gray.",
        show_if={"finish": ["dither"]},
    )


class BlackWhite(Operation[BlackWhiteParams]):
    """Turns a picture gray, or into black and white dots."""

    key = "blackwhite"
    title = "Black and white"
    summary = "Turns a color picture into shades of gray or pure black and white."
    description = (
        "Choose how colors are weighed, set the **contrast**, and finish in shades of gray, in two tones "
        "cut at a level, or in two tones dithered so that they look gray from afar. "
        "Transparent parts stay transparent. Two-tone results are PNG files."
    )
    tier = "basic"
    version = 1
    Params = BlackWhiteParams

    def keeps(self, params: BlackWhiteParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def run(self, picture: PictureView, params: BlackWhiteParams, context: Context) -> Result:
        alpha = picture.alpha()
        gray = _measure(picture, params.method, flat=alpha is None)
        if params.contrast:
            gray = gray.point(_contrast_table(params.contrast))
        toned = _finish(gray, params)
        hint = "PNG" if params.finish != "gray" else None
        if alpha is not None:
            toned = Image.merge("LA", (toned.convert("L"), alpha))
        return Result(image=toned, format=hint)


def _measure(picture: PictureView, method: str, *, flat: bool) -> Image.Image:
    """Brightness, mode L."""
    if method == "rec601":
        return picture.gray(flat=flat)
    color = picture.rgb(flat=flat)
    if method == "lightness":
        return _lightness(color)
    red, green, blue = _WEIGHTS[method]
    return color.convert("L", (red, green, blue, 0))


def _contrast_table(contrast: int) -> list[int]:
    """A line through mid gray: flat at -100, three times as steep at 100."""
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
    """The first code of the brighter class that maximises variance between classes (Otsu 1979).

    Takes 256 counts; answers 1..255, or 128 where all pixels are of one code.
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
    # Between two far classes the maximum is a plateau: its middle is the fairest cut.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return int((best[0] + best[-1]) // 2) + 1


def dither_ordered(gray: Image.Image) -> Image.Image:
    """Compare with a repeated 8 x 8 Bayer matrix. Mode L in, mode 1 out."""
    thresholds = _bayer(8)
    width, height = gray.size
    tiled = np.tile(thresholds, (-(-height // 8), -(-width // 8)))[:height, :width]
    return Image.fromarray((np.asarray(gray) > tiled).astype(np.uint8) * 255).convert(
        "1", dither=Image.Dither.NONE
    )


def _lightness(color: Image.Image) -> Image.Image:
    """CIE L* (ISO/CIE 11664-4) of sRGB pixels, 0..100 spread over 0..255.

    Works by tables: 12 bits of luminance are finer than 8 bits of L* anywhere above L* = 2.
    """
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
    # 1..254, so that pure black and pure white stay pure.
    return np.floor((matrix + 0.5) * 255 / side**2).astype(np.uint8)
