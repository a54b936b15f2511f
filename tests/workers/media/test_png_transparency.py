"""The transparent color of a PNG is compared at the depth of its samples; a misfit is passed over."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tests.workers.media.samples import pixels, png_chunk
from workers import engine
from workers.media.picture import Picture

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
# Adam7: first column and row, and the steps, of each pass.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def write_png(
    values: np.ndarray,
    bits: int,
    kind: int,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
    late: tuple[bytes, bytes] | None = None,
) -> bytes:
    """Return a PNG of an array of the shape (height, width, samples). `late` stands behind the pixels."""
    height, width = values.shape[:2]
    parts = [values[y::down, x::across] for x, y, across, down in PASSES] if interlaced else [values]
    data = b"".join(_rows(part, bits) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    body = b"".join(png_chunk(*chunk) for chunk in chunks) + png_chunk(b"IDAT", zlib.compress(data))
    end = (png_chunk(*late) if late else b"") + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body + end


def _rows(part: np.ndarray, bits: int) -> bytes:
    flat = part.reshape(part.shape[0], -1)
    if bits == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in flat)
    places = np.arange(bits - 1, -1, -1)
    spread = (flat[..., None] >> places & 1).astype(np.uint8).reshape(part.shape[0], -1)
    return b"".join(b"\0" + row.tobytes() for row in np.packbits(spread, axis=1))


def opacity(data: bytes) -> np.ndarray | None:
    alpha = Picture.open(data).alpha()
    return None if alpha is None else pixels(alpha)


def key(*numbers: int) -> tuple[bytes, bytes]:
    return b"tRNS", struct.pack(f">{len(numbers)}H", *numbers)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray(bits: int, interlaced: bool) -> None:
    top = 2**bits - 1
    values = np.linspace(0, top, 11 * 13).astype(int).reshape(11, 13, 1)
    for color in {0, 1, top // 2, top - 1, top}:
        data = write_png(values, bits, GRAY, key(color), interlaced=interlaced)
        wanted = np.where(values[..., 0] == color, 0, 255)
        assert (wanted == 0).any() or bits > 4
        got = opacity(data)
        assert np.array_equal(np.full((11, 13), 255) if got is None else got, wanted), color
        shades = pixels(Picture.open(data).gray(flat=False))
        assert np.abs(shades - np.rint(values[..., 0] * 255 / top)).max() <= 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb(bits: int, interlaced: bool) -> None:
    values = np.random.default_rng(2).integers(0, 2**bits, (11, 13, 3))
    color = values[4, 5].tolist()
    got = opacity(write_png(values, bits, RGB, key(*color), interlaced=interlaced))
    assert got is not None
    assert np.array_equal(got, np.where((values == color).all(axis=2), 0, 255))


@pytest.mark.parametrize("channel", range(3))
def test_a_color_that_differs_in_one_low_byte_is_not_transparent(channel: int) -> None:
    values = np.full((5, 6, 3), [0xC8C8, 0x1E1E, 0x3C3C])
    color = values[0, 0].tolist()
    color[channel] += 1
    assert opacity(write_png(values, 16, RGB, key(*color))) is None
    values[2, 3] = color
    got = opacity(write_png(values, 16, RGB, key(*color)))
    assert got is not None
    assert np.argwhere(got == 0).tolist() == [[2, 3]]


def test_a_gray_that_differs_in_its_low_byte_is_not_transparent() -> None:
    values = np.full((5, 6, 1), 0xC8C8)
    values[1, 1] = 0xC8C9
    got = opacity(write_png(values, 16, GRAY, key(0xC8C9)))
    assert got is not None
    assert np.argwhere(got == 0).tolist() == [[1, 1]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_only_the_low_byte_counts_for_samples_of_a_byte(bits: int) -> None:
    values = np.array([[[0], [1]]])
    got = opacity(write_png(values, bits, GRAY, key(0xFF01)))
    assert got is not None
    assert got.tolist() == [[255, 0]]


PLTE = (b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_palette_with_partial_opacity(bits: int) -> None:
    values = np.array([[[0], [1], [2]]])
    data = write_png(values, bits, PALETTE, PLTE, (b"tRNS", bytes([255, 100])))
    got = opacity(data)
    assert got is not None
    assert got.tolist() == [[255, 100, 255]]
    assert pixels(Picture.open(data).rgb(flat=False)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert pixels(Picture.open(data).rgb())[0, 1].tolist() == [171, 175, 179]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_samples_of_opacity(bits: int, interlaced: bool) -> None:
    top = 2**bits - 1
    for kind, samples in ((GRAY_ALPHA, 2), (RGB_ALPHA, 4)):
        values = np.random.default_rng(4).integers(0, top + 1, (9, 10, samples))
        picture = Picture.open(write_png(values, bits, kind, interlaced=interlaced))
        alpha = picture.alpha()
        assert alpha is not None
        assert np.abs(pixels(alpha) - values[..., -1] * 255 / top).max() <= 1
        straight = picture.gray(flat=False) if kind == GRAY_ALPHA else picture.rgb(flat=False)
        wanted = values[..., :-1] * 255 / top
        assert np.abs(pixels(straight).reshape(wanted.shape) - wanted).max() <= 1


def test_gray_with_opacity_stays_gray() -> None:
    values = np.random.default_rng(4).integers(0, 65536, (9, 10, 2))
    assert Picture.open(write_png(values, 16, GRAY_ALPHA))._straight().mode == "L"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (GRAY, b""),
        (GRAY, b"\0"),
        (RGB, b"\0\7"),
        (GRAY_ALPHA, b"\0\7"),
        (RGB_ALPHA, b"\0\7\0\7\0\7"),
    ],
)
def test_a_chunk_that_does_not_fit_is_passed_over(kind: int, body: bytes) -> None:
    samples = {GRAY: 1, RGB: 3, GRAY_ALPHA: 2, RGB_ALPHA: 4}[kind]
    values = np.full((4, 4, samples), 7)
    values[..., -1] = 255 if kind in (GRAY_ALPHA, RGB_ALPHA) else 7
    data = write_png(values, 8, kind, (b"tRNS", body))
    assert engine.thumbnail(data).width == 4
    assert opacity(data) is None


@pytest.mark.parametrize("number", [4, 9, 300])
def test_more_opacities_than_colors_count_as_far_as_there_are_colors(number: int) -> None:
    values = np.array([[[0], [1], [2]]])
    got = opacity(write_png(values, 8, PALETTE, PLTE, (b"tRNS", bytes([7, 8, 9] * 100)[:number])))
    assert got is not None
    assert got.tolist() == [[7, 8, 9]]


@pytest.mark.parametrize(
    ("kind", "body"), [(GRAY, b"\0\7\0\7\0\7"), (GRAY, b"\0\7\0"), (RGB, b"\0\7\0\7\0\7\0")]
)
def test_the_rest_of_a_long_chunk_is_passed_over(kind: int, body: bytes) -> None:
    values = np.full((1, 2, 1 if kind == GRAY else 3), 7)
    values[0, 0] = 9
    got = opacity(write_png(values, 8, kind, (b"tRNS", body)))
    assert got is not None
    assert got.tolist() == [[255, 0]]


def test_a_chunk_behind_the_pixels_or_before_its_palette_is_passed_over() -> None:
    values = np.full((4, 4, 1), 7)
    assert opacity(write_png(values, 8, GRAY, late=key(7))) is None
    assert opacity(write_png(values % 3, 8, PALETTE, PLTE, late=(b"tRNS", b"\0\0\0"))) is None
    assert opacity(write_png(values % 3, 8, PALETTE, (b"tRNS", b"\0\0\0"), PLTE)) is None


def test_the_first_of_two_chunks_counts() -> None:
    got = opacity(write_png(np.array([[[3], [4]]]), 8, GRAY, key(3), key(4)))
    assert got is not None
    assert got.tolist() == [[0, 255]]


def test_results_and_previews_keep_the_transparent_color() -> None:
    values = np.full((30, 40, 3), 0x8080)
    values[5:15, 5:15] = [0xC8C8, 0x1E1E, 0x3C3C]
    data = write_png(values, 16, RGB, key(0xC8C8, 0x1E1E, 0x3C3C))
    recipe = engine.Recipe.single("blackwhite")
    for outcome in (engine.run(recipe, data), engine.preview(recipe, data)):
        alpha = Picture.open(outcome.files[0].data).alpha()
        assert alpha is not None
        assert pixels(alpha)[10, 10] == 0
        assert pixels(alpha)[20, 20] == 255
