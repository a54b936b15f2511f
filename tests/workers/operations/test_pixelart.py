"""Cells, palettes, dithering and outlines of pixel art."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, pixels
from workers import engine
from workers.color.oklab import to_oklab
from workers.color.palettes import PALETTES, read_palette
from workers.operations.pixelart import draw_outlines
from workers.recipe import Recipe


def run(image: Image.Image, format: str = "PNG", **params: object) -> Image.Image:
    outcome = engine.run(Recipe.single("pixelart", params), encode(image, format))
    assert outcome.files[0].suffix == ".png"
    return decode(outcome.files[0].data)


@pytest.mark.parametrize("block", [2, 7, 16, 128])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_each_cell_is_of_one_color(block: int, format: str) -> None:
    made = run(draw(100, 70), format, block=block)
    assert made.size == (100, 70)
    got = pixels(made.convert("RGB"))
    for y in range(0, 70, block):
        for x in range(0, 100, block):
            cell = got[y : y + block, x : x + block].reshape(-1, 3)
            assert np.all(cell == cell[0])


def test_a_cell_takes_the_mean_of_what_it_covers() -> None:
    image = draw(64, 64)
    got = pixels(run(image, block=16, colors=64).convert("RGB"))[::16, ::16]
    mean = pixels(image).reshape(4, 16, 4, 16, 3).mean(axis=(1, 3))
    assert np.abs(got - mean).max() <= 2


@pytest.mark.parametrize("colors", [2, 5, 16, 64])
@pytest.mark.parametrize("dither", ["none", "ordered", "floyd-steinberg"])
def test_no_more_colors_than_asked(colors: int, dither: str) -> None:
    made = run(draw(200, 150), block=2, colors=colors, dither=dither).convert("RGB")
    assert 2 <= len(made.getcolors()) <= colors


@pytest.mark.parametrize("palette", sorted(PALETTES))
@pytest.mark.parametrize("dither", ["none", "ordered", "floyd-steinberg"])
def test_named_palettes_are_kept_to(palette: str, dither: str) -> None:
    made = run(draw(120, 90), block=4, palette=palette, dither=dither).convert("RGB")
    assert {color for _, color in made.getcolors()} <= set(read_palette(palette))


@pytest.mark.parametrize(
    ("palette", "count"),
    [("pico8", 16), ("gameboy", 4), ("cga", 4), ("ega", 16), ("c64", 16), ("spectrum", 15), ("nes", 55)],
)
def test_palettes_have_the_colors_they_claim(palette: str, count: int) -> None:
    assert len(read_palette(palette)) == count


@pytest.mark.parametrize("dither", ["ordered", "floyd-steinberg"])
def test_dithering_comes_closer_to_the_mean(dither: str) -> None:
    gray = Image.new("RGB", (128, 128), (110, 110, 110))
    plain = pixels(run(gray, block=2, palette="gray4").convert("L")).mean()
    mixed = pixels(run(gray, block=2, palette="gray4", dither=dither).convert("L")).mean()
    assert abs(mixed - 110) <= abs(plain - 110)
    assert len(run(gray, block=2, palette="gray4", dither=dither).getcolors()) >= 2


def test_outlines_darken_the_dark_side_of_edges_only() -> None:
    tones = np.full((4, 8, 3), 220, np.uint8)
    tones[:, 4:] = 120
    lab = to_oklab(tones)
    lined = draw_outlines(lab, 1.0)
    assert np.allclose(lined[:, :4], lab[:, :4])
    assert np.all(lined[:, 4, 0] < lab[:, 4, 0] - 0.1)
    assert np.allclose(lined[:, 5:], lab[:, 5:])
    assert np.allclose(draw_outlines(lab, 0.0), lab)


def test_transparent_cells_are_fully_so() -> None:
    image = draw(64, 32).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 32, 32))
    alpha = pixels(run(image, block=8).convert("RGBA"))[..., 3]
    assert np.all(alpha[:, :32] == 0)
    assert np.all(alpha[:, 32:] == 255)


def test_a_flat_picture_is_one_color() -> None:
    made = run(Image.new("RGB", (50, 50), (12, 200, 77))).convert("RGB")
    assert made.getcolors() == [(2500, (12, 200, 77))]
