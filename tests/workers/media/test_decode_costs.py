"""Images that would keep a worker busy are refused before their pixels are decoded; honest ones pass."""

from __future__ import annotations

import io
import re
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.workers.media import samples
from tests.workers.media.samples import draw, encode, pixels
from tests.workers.tiff.tiffs import gray_tags, tiff
from workers import engine
from workers.media.picture import Picture, PictureError, identify

SOON = 0.5
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def refusal(data: bytes) -> PictureError:
    started = time.thread_time()
    with pytest.raises(PictureError) as caught:
        engine.thumbnail(data)
    with pytest.raises(PictureError):
        engine.preview(engine.Recipe.single("blackwhite"), data)
    assert time.thread_time() - started < SOON
    return caught.value


def progressive(width: int = 64, height: int = 64) -> bytes:
    return encode(Image.new("RGB", (width, height), (90, 120, 60)), "JPEG", progressive=True)


def claiming(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG that says it has other sides."""
    at = data.index(b"\xff\xc2") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def repeat_scan(data: bytes, times: int, between: bytes = b"") -> bytes:
    """Return a JPEG whose last scan stands there so many times more."""
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + (between + scan) * times + b"\xff\xd9"


# --- JPEG.


def test_very_many_scans_are_refused() -> None:
    assert refusal(repeat_scan(progressive(), 300)).message == (
        "This JPEG has too many scans for its 0 megapixels: at most 200 are accepted. "
        "Save it as a baseline JPEG."
    )


def test_scans_are_bounded_by_the_pixels_that_each_passes_over() -> None:
    data = repeat_scan(progressive(), 170)
    assert engine.thumbnail(data).width == 64
    assert refusal(claiming(data, 8166, 6000)).message == (
        "This JPEG has too many scans for its 49 megapixels: at most 13 are accepted. "
        "Save it as a baseline JPEG."
    )


def test_the_usual_progressive_jpeg_of_fifty_megapixels_passes() -> None:
    data = progressive(8160, 6120)
    assert data.count(b"\xff\xda") == 10
    assert engine.thumbnail(data).facts.width == 8160
    assert engine.thumbnail(repeat_scan(data, 2)).facts.width == 8160


@pytest.mark.parametrize("between", [b"\xff\xfe\0\x06\xff\xd9ab", b"\xff\xfe\0\x04\xff\xd9", b"\xff" * 9])
def test_an_end_mark_inside_of_a_comment_hides_no_scan(between: bytes) -> None:
    assert refusal(repeat_scan(progressive(), 300, between)).code == "too_complex"


def test_scans_in_comments_and_behind_the_end_do_not_count() -> None:
    """Previews in EXIF, a film behind the picture, further pictures of one file."""
    data = claiming(progressive(), 64, 64)
    preview = struct.pack(">BBH", 0xFF, 0xE1, 60_002) + b"\xff\xda" * 30_000
    picture = Picture.open(data[:2] + preview + data[2:] + b"\xff\xda" * 100_000)
    assert picture.rgb().size == (64, 64)


def test_a_baseline_jpeg_has_one_scan_whatever_follows_it() -> None:
    data = encode(draw(), "JPEG")
    assert Picture.open(repeat_scan(data, 500)).width == 96


def test_very_many_segments_between_scans_are_refused() -> None:
    data = progressive()
    segments = b"\xff\xfe\0\2" * 1_000_000
    assert refusal(data[:-2] + segments + b"\xff\xd9").code == "too_complex"


def test_the_strips_of_a_tiff_are_bounded_as_jpegs() -> None:
    data = repeat_scan(progressive(), 250)
    tags = [tag for tag in gray_tags(compression=7) if tag[0] not in (258, 262, 277, 279)]
    tags += [
        (258, 3, 3, struct.pack("<HHH", 8, 8, 8)),
        (262, 3, 1, 6),
        (277, 3, 1, 3),
        (279, 4, 1, len(data)),
    ]
    error = refusal(tiff(sorted(tags), data))
    assert error.code == "too_complex"
    assert "too many scans" in error.message


@pytest.mark.parametrize("rows", [16, 64, 4000])
def test_a_tiff_of_jpeg_strips_passes(rows: int) -> None:
    image = draw(600, 400)
    data = encode(image, "TIFF", compression="jpeg", tiffinfo={278: rows})
    assert np.abs(pixels(Picture.open(data).rgb()) - pixels(image)).mean() < 12


# --- PNG.


def _behind_pixels(*chunks: bytes) -> bytes:
    data = encode(draw(), "PNG")
    return data[:-12] + b"".join(chunks) + data[-12:]


PACKED = zlib.compress(bytes(1_000_000), 9)


@pytest.mark.parametrize(
    "chunk",
    [(b"IDAT", b""), (b"prVt", b""), (b"tEXt", b"a\0b"), (b"iTXt", b"a\0\1\0\0\0" + PACKED)],
    ids=["pixels", "private", "text", "packed"],
)
def test_a_png_of_very_many_chunks_is_refused(chunk: tuple[bytes, bytes]) -> None:
    one = samples.png_chunk(*chunk)
    data = _behind_pixels(one * (1_000_000 if len(one) < 100 else 2000))
    assert identify(data).width == 96
    error = refusal(data)
    assert (error.code, error.message) == (
        "too_complex",
        "This PNG has too many chunks. Save it again with another program.",
    )


def test_a_png_in_small_chunks_and_with_texts_at_its_end_passes() -> None:
    plain = encode(draw(100, 80), "PNG")
    pixels_at = plain.index(b"IDAT") - 4
    length = struct.unpack(">I", plain[pixels_at : pixels_at + 4])[0]
    body = plain[pixels_at + 8 : pixels_at + 8 + length]
    parts = [samples.png_chunk(b"IDAT", body[at : at + 64]) for at in range(0, length, 64)]
    texts = [samples.png_chunk(b"tEXt", b"Comment\0text")] * 100
    data = plain[:pixels_at] + b"".join([*parts, *texts]) + plain[-12:]
    assert np.array_equal(pixels(Picture.open(data).rgb()), pixels(samples.decode(plain)))


def test_every_kind_of_picture_passes() -> None:
    for name, data in samples.kinds().items():
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
        assert max(Picture.open(data).rgb().size) == max(size), name
