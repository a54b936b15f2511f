"""Weights, contrast, threshold and dithering, against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, pixels
from workers import engine
from workers.operations.blackwhite import dither_ordered, find_otsu_level
from workers.recipe import Recipe


def run(image: Image.Image, format: str = "PNG", **params: object) -> Image.Image:
    outcome = engine.run(Recipe.single("blackwhite", params), encode(image, format))
    return decode(outcome.files[0].data)


def _lightness(code: np.ndarray) -> np.ndarray:
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        ("rec601", (0.299, 0.587, 0.114)),
        ("rec709", (0.2126, 0.7152, 0.0722)),
        ("average", (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_weighs_colors(method: str, weights: tuple[float, float, float]) -> None:
    got = pixels(run(draw(), method=method))
    assert np.abs(got - pixels(draw()) @ np.array(weights)).max() <= 1


def test_lightness_is_cie() -> None:
    got = pixels(run(draw(), method="lightness"))
    assert np.abs(got - _lightness(pixels(draw()) / 255) * 2.55).max() <= 1


def test_lightness_of_middle_gray() -> None:
    assert run(Image.new("RGB", (1, 1), (119, 119, 119)), method="lightness").getpixel((0, 0)) == 128


def test_contrast_turns_about_the_middle() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :])
    steep, flat = pixels(run(ramp, contrast=50))[0], pixels(run(ramp, contrast=-50))[0]
    assert steep[64] < 64 < flat[64]
    assert flat[192] < 192 < steep[192]
    assert abs(steep[127] - 127) <= 1
    assert np.all(np.diff(steep) >= 0)
    assert np.ptp(pixels(run(ramp, contrast=-100))) <= 1


@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_threshold_cuts_at_the_level(level: int) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :])
    cut = run(ramp, finish="threshold", auto_threshold=False, threshold=level)
    assert cut.mode == "1"
    assert pixels(cut)[0].tolist() == [int(code >= level) for code in range(256)]


def test_two_tones_of_a_jpeg_are_a_png() -> None:
    image = run(draw(), "JPEG", finish="dither")
    assert (image.format, image.mode) == ("PNG", "1")


def test_otsu_parts_two_humps() -> None:
    rng = np.random.default_rng(3)
    codes = np.clip(np.concatenate([rng.normal(60, 10, 5000), rng.normal(180, 15, 3000)]), 0, 255)
    level = find_otsu_level(np.bincount(codes.astype(int), minlength=256).tolist())
    assert 100 < level < 135


def test_otsu_maximises_variance_between_classes() -> None:
    histogram = np.random.default_rng(4).integers(0, 100, 256)

    def between(level: int) -> float:
        low, high = histogram[:level], histogram[level:]
        mean_low = (low * np.arange(level)).sum() / low.sum()
        mean_high = (high * np.arange(level, 256)).sum() / high.sum()
        return float(low.sum() * high.sum() * (mean_low - mean_high) ** 2)

    best = max(range(1, 256), key=between)
    assert find_otsu_level(histogram.tolist()) == best


def test_otsu_of_two_tones_cuts_midway() -> None:
    histogram = [0] * 256
    histogram[50] = histogram[150] = 10
    assert 95 <= find_otsu_level(histogram) <= 106


def test_otsu_of_one_tone_is_the_middle() -> None:
    assert find_otsu_level([0] * 30 + [9] + [0] * 225) == 128


@pytest.mark.parametrize("pattern", ["floyd-steinberg", "ordered"])
@pytest.mark.parametrize("code", [0, 64, 128, 200, 255])
def test_dithering_keeps_the_mean(pattern: str, code: int) -> None:
    got = run(Image.new("L", (64, 64), code), finish="dither", pattern=pattern)
    assert abs(pixels(got).mean() - code / 255) < 0.02


def test_ordered_dither_repeats_every_eight_pixels() -> None:
    dots = pixels(dither_ordered(Image.new("L", (24, 16), 90)))
    assert np.array_equal(dots[:8, :8], dots[8:, 16:])


@pytest.mark.parametrize("finish", ["gray", "threshold", "dither"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparency_stays(finish: str, format: str) -> None:
    image = draw()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    outcome = engine.run(
        Recipe.single("blackwhite", {"finish": finish}),
        encode(image, format, **({"lossless": True} if format == "WEBP" else {})),
    )
    got = decode(outcome.files[0].data)
    assert np.abs(pixels(got.getchannel("A")) - pixels(image.getchannel("A"))).max() <= 2


def test_hidden_color_does_not_shine_through() -> None:
    """Gray of a half transparent pixel is that of its own color, not of color on white."""
    got = run(Image.new("RGBA", (2, 2), (100, 100, 100, 128)))
    assert got.getpixel((0, 0)) == (100, 128)
