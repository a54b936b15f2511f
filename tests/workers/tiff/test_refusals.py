"""TIFFs of samples that are not supported are refused with the reason; damage is called damage."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest

from drive.formats.detect import sniff
from ipau.common.errors import Invalid
from tests.workers.media.samples import draw, pixels
from tests.workers.tiff.tiff_samples import (
    DEFLATE,
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    LZW,
    SIGNED,
    ZSTD,
    write_samples,
)
from tests.workers.tiff.tiffs import directory, gray_tags, tiff
from workers import engine
from workers.media.picture import PictureError, identify

BLACK_IS_ZERO, RGB = 1, 2
PHOTO = pixels(draw(70, 50))


def refusal(data: bytes) -> PictureError:
    """Return how each reader refuses a file: from its header alone, and in the same words."""
    with pytest.raises(PictureError) as caught:
        identify(data)
    with pytest.raises(Invalid) as sniffed:
        sniff(io.BytesIO(data))
    with pytest.raises(PictureError) as previewed:
        engine.preview(engine.Recipe.single("blackwhite"), data)
    messages = {caught.value.message, sniffed.value.message, previewed.value.message}
    assert len(messages) == 1
    assert sniffed.value.code == previewed.value.code == caught.value.code
    return caught.value


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (34887, "LERC"),
        (34712, "JPEG 2000"),
        (50002, "JPEG XL"),
        (34661, "JBIG"),
        (60_000, "an unknown method"),
    ],
)
def test_other_compressions_are_named(compression: int, name: str) -> None:
    error = refusal(tiff(gray_tags(compression=compression)))
    assert error.code == "unsupported"
    assert f"compressed with {name}" in error.message
    assert error.message.endswith("which is not supported. Save it with LZW or Deflate.")


@pytest.mark.parametrize(
    ("photometric", "words"),
    [(4, "a transparency mask"), (32803, "camera raw data"), (777, "unknown kind, 777")],
)
def test_other_colors_are_named(photometric: int, words: str) -> None:
    error = refusal(write_samples(np.zeros((9, 9, 1), int), photometric, 8))
    assert error.code == "unsupported"
    assert words in error.message


@pytest.mark.parametrize(("bits", "kind"), [(24, 1), (31, 1), (12, SIGNED), (24, FLOAT), (8, FLOAT)])
def test_other_depths_are_named(bits: int, kind: int) -> None:
    tags = [tag for tag in gray_tags() if tag[0] != 258]
    error = refusal(tiff(sorted([*tags, (258, 3, 1, bits), (339, 3, 1, kind)]), bytes(64 * 64 * 8)))
    assert error.code == "unsupported"
    assert f"{bits}-bit" in error.message


def test_complex_and_mixed_samples_are_refused() -> None:
    tags = [tag for tag in gray_tags() if tag[0] != 258]
    complex_numbers = tiff(sorted([*tags, (258, 3, 1, 64), (339, 3, 1, 6)]), bytes(64 * 64 * 8))
    assert "complex" in refusal(complex_numbers).message
    three = [tag for tag in tags if tag[0] not in (262, 277)] + [(262, 3, 1, RGB), (277, 3, 1, 3)]
    mixed = tiff(sorted([*three, (258, 3, 3, struct.pack("<3H", 5, 6, 5))]))
    assert "different numbers of bits" in refusal(mixed).message


def test_predictors_that_nothing_defines_are_refused() -> None:
    values = np.zeros((9, 70, 1), int)
    data = write_samples(values, BLACK_IS_ZERO, 4, compression=LZW, more=[(317, 3, 1, HORIZONTAL)])
    assert "predictor" in refusal(data).message


def test_the_preview_of_a_camera_raw_file_is_not_taken_for_it() -> None:
    inner = gray_tags()
    at = len(tiff([*gray_tags(), (254, 4, 1, 1), (330, 4, 1, 0)]))
    data = tiff(sorted([*gray_tags(), (254, 4, 1, 1), (330, 4, 1, at)])) + directory(inner, at)
    assert "only a preview" in refusal(data).message


def test_a_page_with_a_thumbnail_of_its_own_passes() -> None:
    at = len(tiff([*gray_tags(), (330, 4, 1, 0)]))
    data = tiff(sorted([*gray_tags(), (330, 4, 1, at)])) + directory(gray_tags(), at)
    assert identify(data).width == 64


def test_too_many_bytes_of_samples_are_refused_from_the_header() -> None:
    tags = [tag for tag in gray_tags(7000, 7000) if tag[0] not in (258, 262, 277)]
    tags += [
        (258, 3, 3, struct.pack("<3H", 64, 64, 64)),
        (262, 3, 1, RGB),
        (277, 3, 1, 3),
        (339, 3, 1, FLOAT),
    ]
    error = refusal(tiff(sorted(tags)))
    assert error.code == "too_large"
    assert "1,122 MB" in error.message


def test_too_many_channels_are_refused_from_the_header() -> None:
    tags = [tag for tag in gray_tags(7000, 7000, compression=DEFLATE) if tag[0] not in (258, 262, 277)]
    tags += [(258, 3, 1, 1), (262, 3, 1, RGB), (277, 3, 1, 900)]
    error = refusal(tiff(sorted(tags)))
    assert error.code == "too_large"
    assert "too many channels" in error.message


def test_a_compressed_strip_of_too_many_bytes_is_refused_from_the_header() -> None:
    tags = [tag for tag in gray_tags(7001, 7000, compression=DEFLATE) if tag[0] != 258]
    error = refusal(tiff(sorted([*tags, (258, 3, 1, 64)])))
    assert error.message == "The strips or tiles of this TIFF are too large. Save it with smaller ones."


@pytest.mark.parametrize("compression", [1, LZW, DEFLATE])
@pytest.mark.parametrize("bits", [12, 32])
def test_missing_samples_are_damage(compression: int, bits: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**bits, (50, 70, 3))
    data = write_samples(values, RGB, bits, compression=compression, rows=10)
    places = data.index(struct.pack("<HHI", 273, 4, 5)) + 8
    table = int.from_bytes(data[places : places + 4], "little")
    beyond = data[:table] + struct.pack("<I", len(data) - 50) + data[table + 4 :]
    with pytest.raises(PictureError) as caught:
        engine.thumbnail(beyond)
    assert caught.value.code in ("damaged", "truncated")


def test_fewer_strips_than_the_image_needs_are_damage() -> None:
    values = np.zeros((50, 70, 3), int)
    data = bytearray(write_samples(values, RGB, 12, rows=10))
    at = data.index(struct.pack("<HHI", 257, 4, 1)) + 8
    data[at : at + 4] = struct.pack("<I", 500)
    with pytest.raises(PictureError) as caught:
        engine.thumbnail(bytes(data))
    assert caught.value.code in ("damaged", "truncated")


@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 12},
        {"bits": 16, "is_planar": True, "compression": LZW},
        {"bits": 32, "kind": FLOAT, "compression": DEFLATE, "predictor": FLOATING_POINT},
        {"bits": 16, "tile": (16, 16), "compression": ZSTD, "predictor": HORIZONTAL, "order": ">", "rows": 9},
        {"bits": 8, "kind": SIGNED, "is_bit_reversed": True},
    ],
    ids=str,
)
def test_random_damage_never_escapes_as_another_error(settings: dict[str, Any]) -> None:
    scale = 1 if settings.get("kind") == FLOAT else 100
    values = PHOTO / 255 * scale if scale == 1 else (PHOTO % scale)
    whole = write_samples(values, RGB, **settings)
    directory_at = int.from_bytes(whole[4:8], "little" if whole[:2] == b"II" else "big")
    rng = np.random.default_rng(8)
    for _ in range(150):
        broken = bytearray(whole)
        for position in rng.integers(directory_at, len(broken), 3):
            broken[position] = rng.integers(256)
        with contextlib.suppress(PictureError):
            engine.thumbnail(bytes(broken))
