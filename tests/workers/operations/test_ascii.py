"""Grid, ink order, text and drawing of ASCII art."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, pixels
from workers import engine, registry
from workers.operations.ascii import build_atlas, match_ink, stretch_tones
from workers.recipe import Recipe


def run(image: Image.Image, **params: object) -> tuple[Image.Image, list[str]]:
    outcome = engine.run(Recipe.single("ascii", params), encode(image, "PNG"))
    picture, text = outcome.files
    assert (text.suffix, text.content_type) == (".txt", "text/plain")
    return decode(picture.data), text.data.decode().split("\n")[:-1]


@pytest.mark.parametrize("columns", [20, 77, 400])
@pytest.mark.parametrize("characters", ["standard", "dense", "blocks", "binary"])
def test_each_line_has_as_many_characters_as_columns(columns: int, characters: str) -> None:
    picture, lines = run(draw(), columns=columns, characters=characters, size=8)
    assert {len(line) for line in lines} == {columns}
    assert picture.width % columns == 0
    assert picture.height == len(lines) * 8


def test_shape_is_kept() -> None:
    picture, _ = run(draw(300, 200), columns=100)
    assert abs(picture.width / picture.height - 1.5) < 0.05


@pytest.mark.parametrize("characters", [" .:-=+*#%@", "@ .", " ░▒▓█", "01 ", "WMi"])
def test_characters_are_sorted_by_ink(characters: str) -> None:
    atlas = build_atlas(characters, 16)
    assert sorted(atlas.characters) == sorted(characters)
    assert np.all(np.diff(atlas.glyphs.mean(axis=(1, 2))) >= 0)
    assert atlas.ink[0] == 0
    assert atlas.ink[-1] == 1


@pytest.mark.parametrize("height", [8, 16, 32])
def test_no_character_is_cut_off_at_its_sides(height: int) -> None:
    for sign in "WM@%il|_":
        glyph = build_atlas(sign + " ", height).glyphs[1]
        assert glyph.max() > 90, sign
        assert glyph[:, [0, -1]].mean() < 150, sign


def test_dark_parts_get_heavy_characters() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (128, 1)))
    _, dark_on_light = run(ramp, columns=64, stretch=False)
    _, light_on_dark = run(ramp, columns=64, stretch=False, inverted=True)
    assert dark_on_light[0][0] == "@"
    assert dark_on_light[0][-1] == " "
    assert light_on_dark[0][0] == " "
    assert light_on_dark[0][-1] == "@"


def test_nearest_ink_is_taken() -> None:
    ink = np.array([0.0, 0.2, 1.0])
    table = match_ink(ink, inverted=True)
    for tone in range(256):
        assert table[tone] == int(np.abs(ink - tone / 255).argmin())


def test_drawn_ink_follows_the_tones() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (128, 1)))
    picture, _ = run(ramp, columns=64, characters="blocks", stretch=False)
    columns = pixels(picture.convert("L")).mean(axis=0)
    assert columns[:40].mean() < 40
    assert columns[-40:].mean() > 215


def test_inverted_is_light_on_black() -> None:
    black = Image.new("RGB", (64, 64), (0, 0, 0))
    assert run(black, inverted=True, stretch=False)[0].convert("L").getextrema() == (0, 0)
    assert run(black, inverted=True, stretch=False)[1][0].strip() == ""


def test_colored_takes_the_picture_s_colors() -> None:
    red = Image.new("RGB", (64, 64), (200, 10, 10))
    picture, _ = run(red, colored=True, characters="blocks", stretch=False)
    inked = pixels(picture)[pixels(picture)[..., 1] < 120]
    assert len(inked)
    assert np.all(inked[:, 0] > inked[:, 1] + 50)


def test_stretch_uses_the_whole_range_but_leaves_flat_pictures() -> None:
    tones = np.linspace(100, 140, 1000).astype(np.uint8)[None, :]
    assert (stretch_tones(tones).min(), stretch_tones(tones).max()) == (0, 255)
    flat = np.full((4, 4), 99, np.uint8)
    assert np.array_equal(stretch_tones(flat), flat)


def test_own_characters() -> None:
    _, lines = run(draw(), characters="custom", custom="ab ")
    assert set("".join(lines)) <= set("ab ")


@pytest.mark.parametrize(
    ("custom", "sentence"),
    [
        ("aaa", "two different"),
        ("", "two different"),
        ("aé", "can only be ASCII"),
        ("a\n", "can only be ASCII"),
    ],
)
def test_own_characters_that_cannot_be_drawn_are_refused(custom: str, sentence: str) -> None:
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate("ascii", {"characters": "custom", "custom": custom})
    assert sentence in caught.value.errors["custom"]
    registry.validate("ascii", {"characters": "standard", "custom": custom})


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_long_thin_pictures_stay_within_limits(size: tuple[int, int]) -> None:
    picture, lines = run(draw(*size), columns=400, size=32)
    assert max(picture.size) <= 20_000
    assert 1 <= len(lines) <= 2000
