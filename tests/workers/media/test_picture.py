"""Views: the right pixels, upright, decoded once, reduced but never too far."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import decode, draw, encode, lay_down, pixels, with_exif
from workers.media.picture import Picture, encode_thumbnail, fit, identify


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_view_is_upright(orientation: int, format: str) -> None:
    upright = draw(120, 80)
    settings = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    settings |= {"lossless": True} if format == "WEBP" else {}
    data = with_exif(lay_down(upright, orientation), format, orientation, **settings)
    facts = identify(data)
    assert (facts.width, facts.height, facts.orientation) == (120, 80, orientation)
    assert np.abs(pixels(Picture.open(data).rgb()) - pixels(upright)).mean() < 3
    assert np.abs(pixels(Picture.open(data).gray()) - pixels(upright.convert("L"))).mean() < 3
    quarter = upright.reduce(4)
    assert np.abs(pixels(Picture.open(data).reduced(30, 20)) - pixels(quarter)).mean() < 3
    assert np.abs(pixels(Picture.open(data).reduced_gray(30, 20)) - pixels(quarter.convert("L"))).mean() < 3
    shown = decode(Picture.open(data).thumbnail(60).data)
    assert shown.size == (60, 40)
    assert np.abs(pixels(shown) - pixels(upright.resize((60, 40), Image.Resampling.BOX))).mean() < 8


def test_gray_is_rec601_luma() -> None:
    image = draw()
    expected = pixels(image) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels(Picture.open(encode(image, "PNG")).gray()) - expected).max() <= 1
    jpeg = Picture.open(encode(image, "JPEG", quality=98, subsampling=0))
    assert np.abs(pixels(jpeg.gray()) - expected).mean() < 1.5


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("asked", [(1, 1), (7, 5), (40, 30), (120, 90), (333, 222), (999, 700)])
def test_reduced_is_never_smaller_than_asked(format: str, asked: tuple[int, int]) -> None:
    picture = Picture.open(encode(draw(999, 701), format))
    for view in (picture.reduced(*asked), picture.reduced_gray(*asked)):
        assert view.width >= asked[0]
        assert view.height >= asked[1]
        assert view.width < 4 * max(asked[0], asked[1] * 999 / 701)


def test_reduced_averages() -> None:
    picture = Picture.open(encode(draw(160, 120), "PNG"))
    assert np.array_equal(pixels(picture.reduced(40, 30)), pixels(draw(160, 120).reduce(4)))


@pytest.mark.parametrize("name", ["rgb", "gray", "alpha"])
def test_views_are_decoded_once(name: str) -> None:
    picture = Picture.open(encode(draw(400, 300), "PNG"))
    first = getattr(picture, name)()
    spent = picture.decode_ms
    assert getattr(picture, name)() is first
    assert picture.decode_ms == spent > 0


@pytest.mark.parametrize("factor", [2, 3, 5, 7, 9])
def test_a_view_is_the_same_whether_all_was_decoded_before(factor: int) -> None:
    data = encode(draw(630, 470), "JPEG")
    fresh, decoded = Picture.open(data), Picture.open(data)
    decoded.rgb()
    asked = 630 // factor, 470 // factor
    drafted, reduced = fresh.reduced(*asked), decoded.reduced(*asked)
    assert drafted.size == reduced.size
    assert np.abs(pixels(drafted) - pixels(reduced)).mean() < 3


def test_a_smaller_view_comes_from_a_larger_one() -> None:
    picture = Picture.open(encode(draw(400, 300), "JPEG"))
    picture.reduced(200, 150)
    spent = picture.decode_ms
    assert picture.reduced(50, 37).size == (50, 38)
    assert picture.decode_ms == spent


def test_opening_decodes_nothing() -> None:
    assert Picture.open(encode(draw(), "JPEG")).decode_ms == 0.0


def test_a_jpeg_says_it_has_no_transparency_without_decoding() -> None:
    picture = Picture.open(encode(draw(), "JPEG"))
    assert picture.alpha() is None
    assert picture.decode_ms == 0.0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_shrunk_keeps_shape_and_look(format: str) -> None:
    small = Picture.open(encode(draw(301, 200), format)).shrunk(100)
    assert (small.width, small.height) == (100, 66)
    expected = draw(301, 200).resize((100, 66), Image.Resampling.BOX)
    assert np.abs(pixels(small.rgb()) - pixels(expected)).mean() < 4


def test_shrunk_keeps_transparency() -> None:
    image = draw(200, 100).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((200, 100)))
    alpha = Picture.open(encode(image, "PNG")).shrunk(50).alpha()
    assert alpha is not None
    assert alpha.size == (50, 25)
    assert np.all(np.diff(pixels(alpha)[:, 10]) >= 0)


def test_shrunk_never_enlarges() -> None:
    picture = Picture.open(encode(draw(), "PNG"))
    assert picture.shrunk(1000) is picture


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((100, 50), 10, (10, 5)), ((1, 900), 256, (1, 256)), ((3, 2), 10, (3, 2)), ((20_000, 1), 256, (256, 1))],
)
def test_fit(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert fit(size, side) == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_thumbnails_of_every_mode(mode: str) -> None:
    image = draw(700, 400).convert(mode)
    made = encode_thumbnail(image, 256)
    shown = decode(made.data)
    assert shown.format == "WEBP"
    assert shown.size == (made.width, made.height) == (256, 146)


def test_a_picture_of_pixels_takes_after_another() -> None:
    source = Picture.open(encode(draw(), "WEBP"))
    made = Picture.of(Image.new("LA", (5, 4), (100, 0)), like=source)
    assert made.format == "WEBP"
    assert (made.width, made.height) == (5, 4)
    assert made.rgb().getpixel((0, 0)) == (255, 255, 255)
    assert made.gray(flat=False).getpixel((0, 0)) == 100
