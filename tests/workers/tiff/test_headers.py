"""Directories of TIFF and EXIF that would keep a reader busy are refused in no time; honest ones pass."""

from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from drive.formats.detect import sniff
from ipau.common.errors import Invalid
from tests.workers.media import samples
from tests.workers.media.samples import draw, encode, pixels
from tests.workers.tiff.tiffs import Tag, block, directory, gray_tags, numbered, tiff
from workers import engine
from workers.media.picture import Picture, PictureError, identify

# As in production: in tests each warning is an error otherwise.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
# Seconds of processor time: fifty times what it takes here.
SOON = 0.5
LAYERS = 37724


def refusal(data: bytes) -> PictureError:
    """Return how each reader refuses some bytes, which must be the same and soon."""
    started = time.thread_time()
    with pytest.raises(PictureError) as caught:
        identify(data)
    with pytest.raises(Invalid, match="^" + caught.value.message[:20]):
        sniff(io.BytesIO(data))
    with pytest.raises(PictureError, match="^" + caught.value.message[:20]):
        engine.thumbnail(data)
    assert time.thread_time() - started < SOON
    return caught.value


def soon(read: Callable[[bytes], object], data: bytes) -> object:
    started = time.thread_time()
    found = read(data)
    assert time.thread_time() - started < SOON
    return found


# --- What is refused.


@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("first", [1000, 256], ids=["sorted", "of known numbers"])
def test_very_many_tags_are_refused(order: str, big: bool, first: int) -> None:
    tags = [*gray_tags(), *numbered(60_000, first=first)]
    error = refusal(tiff(tags, order=order, big=big))
    assert (error.code, error.message) == (
        "too_complex",
        "This image has more than 1,000 tags in one directory, which is the limit.",
    )


def test_one_tag_again_and_again_is_refused() -> None:
    assert refusal(tiff([*gray_tags(), *[(256, 4, 1, 64)] * 65_000])).code == "too_complex"


def test_a_count_of_tags_that_are_not_there_is_refused() -> None:
    """BigTIFF counts with 64 bits."""
    data = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**63)
    assert refusal(data).code == "too_complex"


def _pages(number: int, *, last: int = 0) -> bytes:
    """Pages whose directories lie behind each other; the last one points to `last`."""
    step = len(directory(gray_tags(), 0))
    first = 8 + 64 * 64
    starts = [first + step * index for index in range(number)] + [last]
    pages = [directory(gray_tags(), at, after=after) for at, after in itertools.pairwise(starts)]
    return b"II*\0" + struct.pack("<I", first) + bytes(64 * 64) + b"".join(pages)


def test_very_many_pages_are_refused() -> None:
    assert refusal(_pages(20_000)).message == "This TIFF has more than 500 pages."


def test_pages_in_a_circle_end_where_they_began() -> None:
    data = _pages(3, last=8 + 64 * 64)
    assert soon(identify, data).width == 64
    assert soon(engine.thumbnail, data).width == 64


def test_values_that_lie_on_each_other_are_refused() -> None:
    """A reader that copies each needs the file's length a thousand times."""
    tags = [*gray_tags(), *numbered(900, 7, 1_000_000, 8)]
    error = refusal(tiff(tags, bytes(1_000_100)))
    assert error.message == "Parts of this TIFF overlap. Save it again with another program."


def _strip_table(number: int, at: int, length: int) -> list[Tag]:
    tables = {273: struct.pack("<I", at) * number, 279: struct.pack("<I", length) * number}
    own = {256: 100, 257: number, 278: 1}
    return [
        (tag, kind, number, tables[tag]) if tag in tables else (tag, kind, 1, own.get(tag, value))
        for tag, kind, _count, value in gray_tags(compression=8)
    ]


def test_strips_that_lie_on_each_other_are_refused() -> None:
    """Each is copied as a whole where its bits lie the other way round."""
    tags = _strip_table(19_000, 8, 1_000_000)
    error = refusal(tiff([*tags[:5], (266, 3, 1, 2), *tags[5:]], bytes(1_000_100)))
    assert error.message == "Parts of this TIFF overlap. Save it again with another program."


def test_very_many_strips_are_refused() -> None:
    tags = _strip_table(100_000, 8, 1)
    assert refusal(tiff(tags)).message == (
        "This TIFF has more than 80,000 strips or tiles. Save it with larger ones."
    )


@pytest.mark.parametrize("twice", [False, True])
def test_a_tile_much_larger_than_its_picture_is_refused(twice: bool) -> None:
    packed = zlib.compress(bytes(20_000 * 500), 9)
    tags: list[Tag] = [tag for tag in gray_tags(compression=8) if tag[0] not in (273, 278, 279)]
    tags += [(322, 4, 1, 20_000), (323, 4, 1, 20_000), (324, 4, 1, 8), (325, 4, 1, len(packed))]
    tags += [(322, 4, 1, 64)] if twice else []
    assert refusal(tiff(tags, packed)).message == (
        "The tiles of this TIFF are too large. Save it with smaller ones."
    )


@pytest.mark.parametrize("kind", [0, 99, 16, 18])
def test_many_tags_of_types_that_no_tiff_has_are_refused(kind: int) -> None:
    """Of 64 bits are only those of BigTIFF."""
    assert refusal(tiff([*gray_tags(), *numbered(17, kind)])).message == (
        "This TIFF has more than 16 damaged tags. Save it again with another program."
    )


def test_a_big_endian_bigtiff_has_one_directory() -> None:
    """Pillow by itself takes the upper half of its header for the place of a classic one."""
    data = bytearray(tiff(gray_tags(), order=">", big=True).ljust(0x80000, b"\0"))
    data += directory(numbered(60_000), 0x80000, order=">")
    assert soon(identify, bytes(data)).width == 64
    assert soon(engine.thumbnail, bytes(data)).width == 64


# --- What is hidden from Pillow, and cost it much.


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
def test_layers_of_an_editor_are_passed_over(order: str, big: bool) -> None:
    layers = os.urandom(1000) * 64_000
    data = tiff([*gray_tags(), (LAYERS, 7, len(layers), layers)], order=order, big=big)
    assert soon(identify, data).width == 64
    assert soon(lambda data: sniff(io.BytesIO(data)), data).width == 64


def test_long_lists_of_fractions_are_passed_over() -> None:
    fractions = struct.pack("<II", 1, 3) * 500_000
    data = tiff([*gray_tags(), (282, 5, 500_000, fractions), (283, 5, 500_000, fractions)])
    assert soon(identify, data).width == 64
    exif = block([(274, 5, 500_000, fractions)])
    assert soon(identify, _png_with_exif(exif)).orientation == 1


def test_the_worst_directory_that_passes_is_read_soon() -> None:
    """Each tag alone makes Pillow warn."""
    for tags in (
        numbered(990, 4, 0x3FFFFFFF),
        numbered(16, 99, 500),
        numbered(990, 7, 50, 8),
        numbered(990, 5, 1, struct.pack("<II", 1, 3)),
        numbered(990, 4, 1000, 0x7FFFFFF0),
    ):
        data = tiff([*gray_tags(), *tags])
        assert soon(identify, data).width == 64
        soon(engine.thumbnail, data)


@pytest.mark.parametrize("kind", [273, 324], ids=["strips", "tiles"])
def test_more_strips_than_the_picture_needs_are_not_counted_out(kind: int) -> None:
    number = 79_000
    places = struct.pack(f"<{number}I", *range(8, 8 + number))
    lengths = struct.pack("<I", 1) * number
    own: dict[int, Tag] = {
        273: (kind, 4, number, places),
        278: (278, 4, 1, 1) if kind == 273 else (322, 4, 1, 16),
        279: (279, 4, number, lengths) if kind == 273 else (325, 4, number, lengths),
    }
    tags = [own.get(tag[0], tag) for tag in gray_tags()]
    tags += [(323, 4, 1, 16)] if kind == 324 else []
    assert soon(identify, tiff(tags, bytes(100_000))).width == 64


def test_strips_at_one_place_are_each_read_no_further_than_they_go() -> None:
    """Not to the end of the file, as many times as there are strips."""
    number = 2000
    own: dict[int, Tag] = {
        256: (256, 4, 1, 100),
        257: (257, 4, 1, number),
        273: (273, 4, number, struct.pack("<I", 8) * number),
        278: (278, 4, 1, 1),
        279: (279, 4, number, struct.pack("<I", 100) * number),
    }
    data = tiff([own.get(tag[0], tag) for tag in gray_tags()], bytes(20_000_000))
    soon(engine.thumbnail, data)


# --- EXIF in other formats, and the index of a multi-picture JPEG.


def _jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"\xff\xd8" + head + encode(draw(), "JPEG")[2:]


def _jpeg_with_exif(exif: bytes) -> bytes:
    parts = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    return _jpeg_with(*[(0xE1, b"Exif\0\0" + part) for part in parts])


def _png_with_exif(exif: bytes) -> bytes:
    data = encode(draw(), "PNG")
    return data[:33] + samples.png_chunk(b"eXIf", exif) + data[33:]


def _png_with_raw_exif(exif: bytes) -> bytes:
    data = encode(draw(), "PNG")
    text = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n    8\n" + (b"Exif\0\0" + exif).hex().encode()
    )
    return data[:33] + samples.png_chunk(b"zTXt", text) + data[33:]


def _webp_with_exif(exif: bytes) -> bytes:
    return encode(draw(), "WEBP", exif=b"Exif\0\0" + exif)


def _avif_with_exif(exif: bytes) -> bytes:
    """Pillow reads it as it writes it, and passes over too many tags: it gets to see none of them."""
    order = "little" if exif[:2] == b"II" else "big"
    if int.from_bytes(exif[8:10], order) <= 1000:
        return encode(draw(), "AVIF", exif=exif, speed=10)
    data = encode(draw(), "AVIF", exif=exif[:8] + bytes(2) + exif[10:], speed=10)
    at = data.index(exif[10:1000]) - 2
    return data[:at] + exif[8:10] + data[at + 2 :]


HOLDERS = [_jpeg_with_exif, _png_with_exif, _png_with_raw_exif, _webp_with_exif, _avif_with_exif]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("number", [1, 0x0FFFFFFF])
def test_exif_of_very_many_tags_is_passed_over(
    hold: Callable[[bytes], bytes], order: str, number: int
) -> None:
    many = 30_000 if hold is _png_with_raw_exif else 60_000
    data = hold(block([(274, 3, 1, 6), *numbered(many, number=number)], order))
    assert soon(identify, data).orientation == 1
    assert soon(engine.thumbnail, data).facts.format in ("JPEG", "PNG", "WEBP", "AVIF")


FRACTION = struct.pack("<II", 1, 3)


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize(
    "tags",
    [
        numbered(990, 5, 1, FRACTION),
        numbered(900, 5, 16, FRACTION * 16),
        numbered(1, 5, 4000, FRACTION * 4000),
        numbered(10, 5, 5000, FRACTION * 5000),
        numbered(100, 7, 60_000, bytes(60_000)),
    ],
    ids=range(5),
)
def test_the_worst_exif_that_passes_is_read_soon(hold: Callable[[bytes], bytes], tags: list[Tag]) -> None:
    """Pillow writes that of an AVIF again, tag by tag."""
    most = 400_000 if hold is _png_with_raw_exif else 900_000
    data = hold(block([(274, 3, 1, 6), *tags])[:most])
    soon(identify, data)
    soon(engine.thumbnail, data)


@pytest.mark.parametrize("hold", HOLDERS)
def test_exif_of_cameras_passes(hold: Callable[[bytes], bytes]) -> None:
    maker = os.urandom(60_000)
    inner = directory([(37500, 7, len(maker), maker), *numbered(60)], 0)
    exif = block([(271, 2, 6, b"Maker\0"), (274, 3, 1, 6), (34665, 4, 1, 8), (700, 7, len(inner), inner)])
    facts = soon(identify, hold(exif))
    assert (facts.width, facts.height, facts.orientation) == (64, 96, 6)


def test_a_directory_of_exif_in_a_tiff_is_passed_over_too() -> None:
    tags = [*gray_tags(), (34665, 4, 1, 0)]
    at = len(tiff(tags))
    data = tiff([*gray_tags(), (34665, 4, 1, at)]) + directory(numbered(60_000), at)
    assert soon(identify, data).width == 64
    assert soon(engine.thumbnail, data).width == 64


def test_exif_that_points_to_itself_is_read_once() -> None:
    data = tiff([*gray_tags(), (34665, 4, 1, 8 + 64 * 64), (34853, 4, 1, 8 + 64 * 64)])
    assert soon(engine.thumbnail, data).width == 64


def test_an_index_of_very_many_tags_makes_no_multi_picture_file() -> None:
    index = block(numbered(5000))
    facts = soon(identify, _jpeg_with((0xE2, b"MPF\0" + index)))
    assert facts.format == "JPEG"


# --- What passes.


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_row_a_strip_passes_and_its_pixels_stay(compression: str | None) -> None:
    image = draw(40, 20_000).convert("L")
    tags = {278: 1}
    data = encode(image, "TIFF", tiffinfo=tags, compression=compression)
    facts = soon(identify, data)
    assert (facts.width, facts.height) == (40, 20_000)
    assert np.array_equal(pixels(Picture.open(data).gray()), pixels(image))


def test_profiles_and_descriptions_of_megabytes_pass() -> None:
    xmp = b"<x:xmpmeta>" + b"<a/>" * 1_500_000 + b'<r tiff:Orientation="6"/></x:xmpmeta>'
    profile = os.urandom(1_000_000) * 8
    tags = [
        *gray_tags(),
        (700, 1, len(xmp), xmp),
        (34377, 7, len(profile), profile),
        (34675, 7, len(profile), profile),
    ]
    data = tiff(sorted(tags, key=lambda tag: tag[0]))
    assert soon(identify, data).orientation == 6
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == profile


def test_unsorted_and_repeated_tags_of_careless_writers_pass() -> None:
    data = tiff([*reversed(gray_tags()), (256, 4, 1, 64), (305, 2, 5, b"Tool\0"), (270, 2, 5, b"Text\0")])
    assert soon(identify, data).width == 64
    assert soon(engine.thumbnail, data).width == 64


def test_a_value_outside_of_the_file_is_left_to_the_decoder() -> None:
    data = tiff([*gray_tags(), (65000, 7, 100_000_000, 0x7FFFFFFF)])
    assert soon(identify, data).width == 64


@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
def test_pages_pass(big: bool) -> None:
    frames = [draw(50, 30, seed) for seed in range(40)]
    data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:], big_tiff=big)
    assert soon(identify, data).width == 50
    assert np.array_equal(pixels(Picture.open(data).rgb()), pixels(frames[0]))


# --- The log.

_READ = """
import sys, logging
logging.basicConfig(level=logging.DEBUG)
from workers import engine
from workers.media.picture import PictureError, identify
data = sys.stdin.buffer.read()
identify(data)
try:
    engine.thumbnail(data)
except PictureError:
    pass
"""


@pytest.mark.parametrize("compression", [1, 5])
def test_bad_tags_write_no_log(compression: int) -> None:
    tags = [*numbered(900, 4, 0x3FFFFFFF), *numbered(16, 99, 500, first=2000)]
    data = tiff([*gray_tags(compression=compression), *tags])
    done = subprocess.run([sys.executable, "-c", _READ], input=data, capture_output=True, check=True)
    assert done.stdout == b""
    # libtiff says of damaged pixels that they are, and twice a line of each tag whose type nobody knows.
    assert len(done.stderr.splitlines()) <= 1 + 2 * 16


def test_the_limits_hold_whatever_opens_a_picture() -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(tiff([*gray_tags(), *numbered(5000)])))
