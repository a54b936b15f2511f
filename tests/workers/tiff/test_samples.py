"""Each kind of TIFF samples comes out in its right pixels, or is refused with a sentence that says why."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.workers.media.samples import draw, encode, lay_down, pixels
from tests.workers.tiff import tiff_samples
from tests.workers.tiff.tiff_samples import (
    DEFLATE,
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    LZMA,
    LZW,
    PACKBITS,
    SIGNED,
    ZSTD,
    palette_tag,
    write_samples,
)
from tests.workers.tiff.tiffs import Tag, tiff
from workers import engine
from workers.media.picture import Picture, PictureError, identify

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
ORDERS = pytest.mark.parametrize("order", ["<", ">"])
RAMP = np.tile(np.linspace(0, 1, 70), (9, 1))[..., None]
PHOTO = pixels(draw(70, 50))


def read(data: bytes) -> np.ndarray:
    return pixels(Picture.open(data).rgb())


def read_gray(data: bytes) -> np.ndarray:
    return pixels(Picture.open(data).gray())


def expect_gray(data: bytes, shares: np.ndarray) -> None:
    """The image is gray, of these shares of white."""
    assert np.abs(read_gray(data) - np.rint(shares[..., 0] * 255)).max() <= 1


# --- Gray.


@ORDERS
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("bits", [*range(1, 17)])
def test_unsigned_gray(order: str, photometric: int, bits: int) -> None:
    values = np.rint(RAMP * (2**bits - 1)).astype(int)
    shares = values / (2**bits - 1)
    data = write_samples(values, photometric, bits, order=order)
    expect_gray(data, 1 - shares if photometric == WHITE_IS_ZERO else shares)


@ORDERS
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_signed_gray_has_black_at_the_smallest_number(order: str, photometric: int, bits: int) -> None:
    # Steps that a float of 64 bits holds exactly.
    steps = np.rint(RAMP * 254)
    values = ((steps - 127) * 2 ** (bits - 8)).astype(np.int64)
    values[0, 0], values[0, 1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    shares = (values.astype(float) + 2.0 ** (bits - 1)) / (2.0**bits - 1)
    data = write_samples(values, photometric, bits, kind=SIGNED, order=order)
    expect_gray(data, 1 - shares if photometric == WHITE_IS_ZERO else shares)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_gray_without_negative_numbers_has_black_at_zero(bits: int) -> None:
    values = np.rint(RAMP * (2 ** (bits - 1) - 1)).astype(int)
    expect_gray(write_samples(values, BLACK_IS_ZERO, bits, kind=SIGNED), RAMP)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("kind", [tiff_samples.UNSIGNED, SIGNED])
@pytest.mark.parametrize("top", [255, 65535, 1_000_000, 2**31 - 1])
def test_wide_integers_are_white_at_the_range_they_fill(bits: int, kind: int, top: int) -> None:
    values = np.rint(RAMP * top).astype(np.int64)
    expect_gray(write_samples(values, BLACK_IS_ZERO, bits, kind=kind), RAMP)


def test_wide_unsigned_integers_use_the_highest_bit() -> None:
    values = np.rint(RAMP * (2**32 - 1)).astype(np.int64)
    expect_gray(write_samples(values, BLACK_IS_ZERO, 32), RAMP)


@ORDERS
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("top", [1.0, 255.0, 65000.0])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_floating_point_gray(order: str, bits: int, top: float, photometric: int) -> None:
    full = next(full for full in (1.0, 255.0, 65535.0) if top <= full)
    shares = RAMP * top / full
    data = write_samples(RAMP * top, photometric, bits, kind=FLOAT, order=order)
    expect_gray(data, 1 - shares if photometric == WHITE_IS_ZERO else shares)


def test_highlights_above_one_leave_the_rest_as_it_is() -> None:
    """A picture in 0 to 1 does not turn black because of a few pixels above."""
    values = np.repeat(RAMP, 3, axis=2)
    values[0, :3] = [[7.5], [np.inf], [-np.inf]]
    got = read(write_samples(values, RGB, 32, kind=FLOAT))
    assert np.abs(got[1:] - np.rint(np.repeat(RAMP, 3, axis=2)[1:] * 255)).max() <= 1
    assert got[0, :3, 0].tolist() == [255, 255, 0]


# --- Color.


@ORDERS
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(
    ("bits", "kind", "scale"),
    [
        (4, 1, 15),
        (8, 1, 255),
        (10, 1, 1023),
        (12, 1, 4095),
        (14, 1, 16383),
        (16, 1, 65535),
        (32, 1, 2**32 - 1),
        (16, FLOAT, 1),
        (32, FLOAT, 1),
        (64, FLOAT, 1),
    ],
)
def test_rgb(order: str, is_planar: bool, tile: Any, bits: int, kind: int, scale: float) -> None:
    values = PHOTO / 255 * scale
    values[0, 0], values[0, 1] = 0, scale
    values = values if kind == FLOAT else np.rint(values).astype(np.int64)
    wanted = np.rint(np.asarray(values, float) / scale * 255)
    data = write_samples(values, RGB, bits, kind=kind, order=order, is_planar=is_planar, tile=tile)
    assert np.abs(read(data) - wanted).max() <= 1


@pytest.mark.parametrize("kind", [SIGNED])
@pytest.mark.parametrize("bits", [8, 16])
def test_signed_rgb(kind: int, bits: int) -> None:
    values = (PHOTO - 128) * 2 ** (bits - 8)
    assert np.abs(read(write_samples(values, RGB, bits, kind=kind)) - PHOTO).max() <= 1


PACKED = pytest.mark.parametrize("compression", [LZW, DEFLATE, 32946, PACKBITS, LZMA, ZSTD])


@PACKED
@pytest.mark.parametrize("rows", [0, 7])
@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("is_planar", [False, True])
def test_compressed_samples(compression: int, rows: int, tile: Any, is_planar: bool) -> None:
    for order, bits, kind in (("<", 12, 1), (">", 16, 1), ("<", 16, 1), ("<", 32, FLOAT), (">", 64, FLOAT)):
        values = PHOTO / 255 if kind == FLOAT else np.rint(PHOTO / 255 * (2**bits - 1)).astype(int)
        data = write_samples(
            values,
            RGB,
            bits,
            kind=kind,
            order=order,
            compression=compression,
            tile=tile,
            rows=rows,
            is_planar=is_planar,
        )
        assert np.abs(read(data) - PHOTO).max() <= 1, (order, bits)


@ORDERS
@pytest.mark.parametrize("compression", [LZW, DEFLATE, LZMA, ZSTD])
@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize(
    ("bits", "kind", "predictor"),
    [
        (8, 1, HORIZONTAL),
        (16, 1, HORIZONTAL),
        (32, FLOAT, HORIZONTAL),
        (16, FLOAT, FLOATING_POINT),
        (32, FLOAT, FLOATING_POINT),
        (64, FLOAT, FLOATING_POINT),
    ],
)
def test_predictors(
    order: str, compression: int, tile: Any, is_planar: bool, bits: int, kind: int, predictor: int
) -> None:
    values = PHOTO / 255 if kind == FLOAT else np.rint(PHOTO / 255 * (2**bits - 1)).astype(int)
    data = write_samples(
        values,
        RGB,
        bits,
        kind=kind,
        order=order,
        compression=compression,
        tile=tile,
        is_planar=is_planar,
        predictor=predictor,
        rows=11,
    )
    assert np.abs(read(data) - PHOTO).max() <= 1


@pytest.mark.parametrize("compression", [1, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_reversed_bits(compression: int, bits: int) -> None:
    values = np.rint(RAMP * (2**bits - 1)).astype(int)
    data = write_samples(values, BLACK_IS_ZERO, bits, compression=compression, is_bit_reversed=True)
    expect_gray(data, values / (2**bits - 1))
    colors = np.rint(PHOTO / 255 * (2**bits - 1)).astype(int)
    data = write_samples(colors, RGB, bits, compression=compression, is_bit_reversed=True)
    assert np.abs(read(data) - np.rint(colors / (2**bits - 1) * 255)).max() <= 1


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_inside(lossless: bool, channels: int) -> None:
    image = draw(70, 50)
    if channels == 4:
        image.putalpha(Image.fromarray(np.tile(np.linspace(255, 9, 70).astype(np.uint8), (50, 1))))
    file = encode(image, "WEBP", lossless=lossless, quality=95, exact=True)
    bits = struct.pack("<4H", 8, 8, 8, 8)[: 2 * channels]
    tags: list[Tag] = [(256, 4, 1, 70), (257, 4, 1, 50), (258, 3, channels, bits), (259, 3, 1, 50001)]
    tags += [(262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels), (278, 4, 1, 50), (279, 4, 1, len(file))]
    tags += [(338, 3, 1, 2)] if channels == 4 else []
    picture = Picture.open(tiff(tags, file))
    assert np.abs(pixels(picture.rgb(flat=False)) - PHOTO).mean() < (0.01 if lossless else 5)
    alpha = picture.alpha()
    assert (alpha is not None) == (channels == 4)
    if alpha is not None:
        assert np.array_equal(pixels(alpha), pixels(image.getchannel("A")))


def test_webp_of_another_size_is_damage() -> None:
    file = encode(draw(40, 50), "WEBP")
    tags: list[Tag] = [(256, 4, 1, 70), (257, 4, 1, 50), (258, 3, 3, struct.pack("<3H", 8, 8, 8))]
    tags += [(259, 3, 1, 50001), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, 50)]
    tags += [(279, 4, 1, len(file))]
    with pytest.raises(PictureError) as caught:
        engine.thumbnail(tiff(tags, file))
    assert caught.value.code == "damaged"


# --- Opacity.


@ORDERS
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha(order: str, is_planar: bool, bits: int, extra: int, channels: int) -> None:
    opacity = np.tile(np.linspace(1, 0.2, 70), (50, 1))[..., None]
    colors = PHOTO[..., :channels] / 255
    stored = np.concatenate([colors * opacity if extra == 1 else colors, opacity], axis=2)
    values = np.rint(stored * (2**bits - 1)).astype(int)
    data = write_samples(
        values,
        RGB if channels == 3 else BLACK_IS_ZERO,
        bits,
        order=order,
        extra=[extra],
        is_planar=is_planar,
    )
    picture = Picture.open(data)
    alpha = picture.alpha()
    assert alpha is not None
    assert np.abs(pixels(alpha) - np.rint(opacity[..., 0] * 255)).max() <= 1
    got = pixels(picture.rgb(flat=False)) if channels == 3 else pixels(picture.gray(flat=False))[..., None]
    assert np.abs(got - PHOTO[..., :channels]).max() <= (4 if extra == 1 else 1)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_samples_of_no_meaning_are_passed_over(
    bits: int, channels: int, is_planar: bool, number: int
) -> None:
    if channels == 4:
        colors = pixels(draw(70, 50).convert("CMYK"))
        wanted = read(write_samples(colors, CMYK, 8))
    else:
        colors = PHOTO[..., :channels]
        wanted = np.broadcast_to(colors, PHOTO.shape)
    more = np.full((50, 70, number), 40)
    values = np.rint(np.concatenate([colors, more], axis=2) / 255 * (2**bits - 1)).astype(int)
    photometric = {1: BLACK_IS_ZERO, 3: RGB, 4: CMYK}[channels]
    picture = Picture.open(write_samples(values, photometric, bits, extra=[0] * number, is_planar=is_planar))
    assert picture.alpha() is None
    assert np.abs(pixels(picture.rgb()) - wanted).max() <= 1


def test_alpha_may_follow_another_sample() -> None:
    opacity = np.tile(np.linspace(0, 255, 70), (50, 1))[..., None]
    values = np.concatenate([PHOTO, np.full((50, 70, 1), 9), opacity], axis=2).astype(int)
    alpha = Picture.open(write_samples(values, RGB, 8, extra=[0, 2])).alpha()
    assert alpha is not None
    assert np.array_equal(pixels(alpha), opacity[..., 0].astype(int))


def test_cmyk_with_alpha_lies_on_white() -> None:
    ink = np.full((4, 4, 4), [0, 255, 255, 0])
    values = np.concatenate([ink, np.full((4, 4, 1), 255)], axis=2)
    values[0, 0, 4] = 0
    got = read(write_samples(values, CMYK, 8, extra=[2]))
    assert got[0, 0].min() >= 250
    assert got[2, 2, 0] > 200 > 60 > got[2, 2, 1]


# --- Palettes, CMYK, Lab and YCbCr.


@ORDERS
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("scale", [257, 256, 1], ids=["words", "shifted", "bytes"])
def test_palettes(order: str, bits: int, scale: int) -> None:
    colors = np.random.default_rng(3).integers(0, 256, (2**bits, 3))
    colors[0], colors[1] = 255, 3
    values = np.arange(50 * 70).reshape(50, 70, 1) % 2**bits
    data = write_samples(values, PALETTE, bits, order=order, more=[palette_tag(colors * scale, order)])
    assert np.array_equal(read(data), colors[values[..., 0]])


@ORDERS
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk(order: str, is_planar: bool, bits: int) -> None:
    ink = draw(70, 50).convert("CMYK")
    values = pixels(ink) * (257 if bits == 16 else 1)
    got = read(write_samples(values, CMYK, bits, order=order, is_planar=is_planar))
    assert np.abs(got - pixels(ink.convert("RGB"))).max() <= 1


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Return sRGB as bytes of CIELAB with the white of D50. CIE 15; IEC 61966-2-1, adapted by Bradford."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.96422, 1, 0.82521]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.transpose(matrix), 0, 1)
    curved = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(int)


@ORDERS
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [CIELAB, ICCLAB])
def test_lab(order: str, is_planar: bool, bits: int, photometric: int) -> None:
    """Colors inside of sRGB."""
    lab = np.array([[[50, 0, 0], [60, -50, 40], [40, 60, 30], [40, 10, -40], [100, 0, 0], [0, 0, 0]]], float)
    white = {(CIELAB, 16): 65535, (ICCLAB, 16): 65280}.get((photometric, bits), 255)
    shifted = lab + np.array([0, 128, 128]) if photometric == ICCLAB else lab
    values = np.rint(shifted * ([white / 100, 1, 1] if bits == 8 else [white / 100, 256, 256])).astype(int)
    data = write_samples(values % 2**bits, photometric, bits, order=order, is_planar=is_planar)
    assert np.abs(read(data) - lab_to_srgb(lab)).max() <= 3


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("compression", [1, LZW, DEFLATE])
def test_ycbcr_with_subsampling(across: int, down: int, compression: int) -> None:
    """Units of luma samples and one of each chroma, where chroma is flat in areas of 8 x 8."""
    blocks = np.random.default_rng(5).integers(20, 236, (4, 5, 3)).astype(np.uint8)
    image = Image.fromarray(blocks).convert("YCbCr")
    planes = np.kron(np.asarray(image), np.ones((8, 8, 1), np.uint8))
    height, width = planes.shape[:2]
    luma = planes[..., 0].reshape(height // down, down, width // across, across).swapaxes(1, 2)
    units = [luma.reshape(height // down, width // across, -1), planes[::down, ::across, 1:]]
    rows = np.concatenate(units, axis=2).reshape(height // down, -1)
    strip = tiff_samples.compress(rows, compression)
    tags: list[Tag] = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, struct.pack("<3H", 8, 8, 8))]
    tags += [(259, 3, 1, compression), (262, 3, 1, YCBCR), (273, 4, 1, 8), (277, 3, 1, 3)]
    tags += [(278, 4, 1, height), (279, 4, 1, len(strip)), (530, 3, 2, struct.pack("<2H", across, down))]
    got = read(tiff(tags, strip))
    assert np.abs(got - np.kron(blocks, np.ones((8, 8, 1), int))).max() <= 3


# --- Files.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_orientation(orientation: int, bits: int) -> None:
    stored = pixels(lay_down(draw(70, 50), orientation))
    values = np.rint(stored / 255 * (2**bits - 1)).astype(int)
    data = write_samples(values, RGB, bits, more=[(274, 3, 1, orientation)])
    facts = identify(data)
    assert (facts.width, facts.height) == (70, 50)
    assert np.abs(read(data) - PHOTO).max() <= 1
    deep = write_samples(values[..., :1], BLACK_IS_ZERO, bits, more=[(274, 3, 1, orientation)])
    assert np.abs(read_gray(deep) - PHOTO[..., 0]).max() <= 1


@ORDERS
@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("compression", [1, LZW])
def test_bigtiff(order: str, bits: int, compression: int) -> None:
    values = np.rint(PHOTO / 255 * (2**bits - 1)).astype(np.int64)
    values[0, 0] = 2**bits - 1
    turned = np.rot90(values)
    settings: dict[str, Any] = {"order": order, "compression": compression, "more": [(274, 3, 1, 6)]}
    data = write_samples(turned, RGB, bits, big=True, **settings)
    assert identify(data).orientation == 6
    assert np.abs(read(data) - np.rint(values / (2**bits - 1) * 255)).max() <= 1


def test_each_view_of_the_same_image_agrees() -> None:
    values = np.rint(PHOTO / 255 * 4095).astype(int)
    data = write_samples(values, RGB, 12)
    outcome = engine.run(engine.Recipe.single("blackwhite"), data)
    shown = engine.preview(engine.Recipe.single("blackwhite"), data)
    results = [
        pixels(Image.open(io.BytesIO(file.data)).convert("L")) for file in (*outcome.files, *shown.files)
    ]
    assert np.abs(results[0] - results[1]).max() <= 1
    small = Image.open(io.BytesIO(engine.thumbnail(data, side=70).data)).convert("RGB")
    assert np.abs(pixels(small) - PHOTO).mean() < 6
