"""Curves of ICC profiles give the right numbers; long and broken profiles cost little."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.workers.color import colors
from tests.workers.media.samples import encode, pixels, png_chunk
from workers.color.conversion import needs_conversion
from workers.color.icc import evaluate_curve
from workers.color.png_chunks import MOST_PROFILE_BYTES
from workers.color.spaces import Profile
from workers.media.picture import Picture, PictureError


@pytest.mark.parametrize(
    ("kind", "numbers", "wanted"),
    [
        (0, [2.0], [0.0, 0.25, 1.0]),
        (1, [2.0, 1.0, -0.5], [0.0, 0.0, 0.25]),
        (2, [2.0, 0.5, 0.0, 0.25], [0.25, 0.3125, 0.5]),
        (3, [2.0, 1.0, 0.0, 0.5, 0.75], [0.0, 0.25, 1.0]),
        (4, [2.0, 0.5, 0.0, 0.5, 0.75, 0.5, 0.125], [0.125, 0.375, 0.75]),
    ],
)
def test_parametric_curves(kind: int, numbers: list[float], wanted: list[float]) -> None:
    """ICC.1:2022, table 68, worked out by hand."""
    tag = struct.pack(f">4s4xHH{len(numbers)}i", b"para", kind, 0, *(round(65536 * n) for n in numbers))
    assert evaluate_curve(tag, np.array([0.0, 0.5, 1.0])) == pytest.approx(wanted, abs=1e-4)


def test_curves_of_points() -> None:
    levels = np.array([0.0, 0.25, 1.0])
    assert evaluate_curve(struct.pack(">4s4xI", b"curv", 0), levels) == pytest.approx(levels)
    assert evaluate_curve(struct.pack(">4s4xIH", b"curv", 1, 512), levels) == pytest.approx(levels**2)
    points = struct.pack(">4s4xI3H", b"curv", 3, 0, 0, 65535)
    assert evaluate_curve(points, levels) == pytest.approx([0, 0, 1])
    with pytest.raises(ValueError, match="not a valid curve"):
        evaluate_curve(struct.pack(">4s4xI3H", b"curv", 2**31, 0, 0, 0), levels)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_long_profile_is_refused(format: str) -> None:
    profile = colors.LINEAR + bytes(MOST_PROFILE_BYTES)
    data = encode(Image.fromarray(colors.draw_colors()), format, icc_profile=profile)
    with pytest.raises(PictureError, match=r"more than 8 MB\. Convert the image to sRGB"):
        Picture.open(data)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_profiles_up_to_the_limit_are_read(format: str) -> None:
    profile = colors.LINEAR + bytes(2 * 1024 * 1024)
    data = encode(Image.fromarray(colors.draw_colors()), format, icc_profile=profile, lossless=True)
    short = encode(Image.fromarray(colors.draw_colors()), "PNG", icc_profile=colors.LINEAR)
    assert np.array_equal(pixels(Picture.open(data).rgb()), pixels(Picture.open(short).rgb()))


def test_profiles_of_a_png_are_unpacked_once() -> None:
    packed = zlib.compress(bytes(MOST_PROFILE_BYTES - 1))[:-4] + b"none"
    broken = png_chunk(b"iCCP", b"a\0\0" + packed)
    started = time.thread_time()
    assert np.array_equal(
        pixels(Picture.open(colors.make_png("RGB", broken * 20)).rgb()), colors.draw_colors()
    )
    # One takes some 0.03 seconds, and the header is read twice.
    assert time.thread_time() - started < 0.5


def test_long_profiles_take_little_time() -> None:
    """Curves of 4 million points, and tens of thousands of steps that browsers do not evaluate."""
    points = struct.pack(">4s4xI", b"curv", 4_000_000) + bytes(8_000_000)
    gray = colors.GRAY_22[:128] + struct.pack(">I4sII", 1, b"kTRC", 144, len(points)) + points
    step = struct.pack(">4s4xHH12f", b"matf", 3, 3, *np.eye(3).ravel(), 0, 0, 0)
    count = 50_000
    steps = struct.pack(">4s4xHHI", b"mpet", 3, 3, count)
    steps += struct.pack(">II", 16 + 8 * count, len(step)) * count + step
    deep = colors.LINEAR[:128] + struct.pack(">I4sII", 1, b"D2B0", 144, len(steps)) + steps
    for profile, mode in ((gray, "L"), (deep, "RGB")):
        profile = struct.pack(">I", len(profile)) + profile[4:]
        started = time.thread_time()
        needs_conversion(Profile.of(profile), mode)
        assert time.thread_time() - started < 2


def test_broken_profiles_are_passed_over() -> None:
    """Each part of a profile in turn is wrong: pixels come out all the same, quickly."""
    image = Image.fromarray(colors.draw_colors())
    for profile in (colors.GRAY_22, colors.DISPLAY_P3, colors.make_table_profile(b"RGB ", 3)[:4000]):
        for at in range(0, min(len(profile), 420), 7):
            broken = profile[:at] + b"\xff\xff\xff\xff" + profile[at + 4 :]
            started = time.thread_time()
            for mode in ("RGB", "L"):
                data = encode(image.convert(mode), "PNG", icc_profile=broken)
                assert Picture.open(data).rgb().size == image.size
            assert time.thread_time() - started < 2
