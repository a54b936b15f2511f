"""Bytes that are no picture, or mean harm, are refused with a sentence; odd modes give the right pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.workers.media import samples
from tests.workers.media.samples import draw, encode, pixels
from workers import engine
from workers.media.picture import DecodeLimits, Picture, PictureError, identify

UNREADABLE = "This file is not an image that can be read. JPEG, PNG, TIFF, WebP and AVIF are supported."


def refuse(data: bytes) -> PictureError:
    """What the whole decode says."""
    with pytest.raises(PictureError) as caught:
        engine.thumbnail(data)
    assert caught.value.message.endswith(".")
    return caught.value


# --- No pictures.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"hello, this is text",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>alert(1)</script>",
        b"PK\x03\x04" + b"\0" * 100,
        b"%PDF-1.7\n",
        b"MZ" + b"\0" * 200,
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        identify(data)
    assert caught.value.code == "unreadable"
    assert caught.value.message == UNREADABLE


@pytest.mark.parametrize("format", ["GIF", "BMP", "PPM", "ICO", "TGA", "PCX"])
def test_formats_outside_the_list_are_refused(format: str) -> None:
    with pytest.raises(PictureError) as caught:
        identify(encode(draw(), format))
    assert caught.value.message == UNREADABLE


# --- Damage.


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    data = encode(draw(200, 150), format)
    error = refuse(data[: int(len(data) * share)])
    assert error.code in ("truncated", "damaged")
    if format != "TIFF":
        assert error.message == "This image is damaged: it ends too early."


@pytest.mark.parametrize("operation", ["blackwhite", "ascii", "mosaic", "pixelart"])
def test_reduced_views_refuse_truncated_files_too(operation: str) -> None:
    data = encode(draw(800, 600), "JPEG")
    with pytest.raises(PictureError, match="ends too early"):
        engine.run(engine.Recipe.single(operation), data[: len(data) // 2])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_random_damage_never_escapes_as_another_error(format: str) -> None:
    whole = encode(draw(64, 48), format)
    rng = np.random.default_rng(5)
    for _ in range(60):
        broken = bytearray(whole)
        for position in rng.integers(0, len(broken), 6):
            broken[position] = rng.integers(256)
        with contextlib.suppress(PictureError):
            engine.thumbnail(bytes(broken))


@pytest.mark.parametrize("length", [4, 9, 20, 33])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_mere_beginning_is_refused(format: str, length: int) -> None:
    assert refuse(encode(draw(), format)[:length]).code in ("truncated", "damaged", "unreadable")


# --- Bombs.


def test_too_many_pixels_are_refused_from_the_header() -> None:
    with pytest.raises(PictureError) as caught:
        identify(samples.claim_png(10_000, 6_000))
    assert caught.value.code == "too_large"
    assert caught.value.message == "This image has 60 megapixels; at most 50 are accepted."


def test_a_long_side_is_refused() -> None:
    with pytest.raises(PictureError) as caught:
        identify(samples.claim_png(20_001, 10))
    assert caught.value.message == "This image has a side of 20,001 pixels; at most 20,000 are accepted."


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(12_000, 8_000), (19_000, 19_000), (2**31 - 1, 2**31 - 1)])
def test_huge_claims_are_refused_at_once(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError) as caught:
        identify(samples.claim_png(*size))
    assert caught.value.code in ("too_large", "damaged")


def test_a_pixel_too_many_is_not_rounded_away() -> None:
    with pytest.raises(PictureError, match=r"50\.1 megapixels"):
        identify(samples.claim_png(10_000, 5_001))


def test_limits_can_be_narrowed() -> None:
    data = encode(draw(40, 30), "PNG")
    assert identify(data, DecodeLimits(max_side=40)).width == 40
    with pytest.raises(PictureError, match="a side of 40 pixels"):
        identify(data, DecodeLimits(max_side=39))
    with pytest.raises(PictureError, match="not an image that can be read"):
        identify(data, DecodeLimits(formats=("JPEG",)))


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_bombs_are_refused_or_passed_over(name: bytes) -> None:
    packed = zlib.compress(b"\0" * 50_000_000)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"p\0\0"}[name]
    data = samples.claim_png(18, 18, samples.png_chunk(name, head + packed))
    with pytest.raises(PictureError) as caught:
        identify(data)
    assert caught.value.code == ("too_complex" if name == b"iCCP" else "damaged")


def test_a_tiff_of_very_many_pages_is_refused() -> None:
    one = struct.pack("<HHIHHI", 256, 3, 1, 1, 0, 0)
    pages, offset = b"", 8
    for _ in range(600):
        entries = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 0), (278, 4), (279, 16)]
        body = struct.pack("<H", len(entries))
        body += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        offset += len(body) + 4
        pages += body + struct.pack("<I", offset)
    with pytest.raises(PictureError) as caught:
        identify(b"II*\0" + struct.pack("<I", 8) + pages + one)
    assert caught.value.code == "too_complex"


def test_only_the_first_frame_is_seen() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "lime")]
    for format in ("PNG", "WEBP", "TIFF"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:])
        color = pixels(Picture.open(data).rgb())[10, 10]
        assert np.abs(color - [255, 0, 0]).max() < 12, format


# --- Disguises.


def test_content_decides_not_the_name() -> None:
    facts = identify(io.BytesIO(encode(draw(), "WEBP")))
    assert (facts.format, facts.content_type, facts.suffix) == ("WEBP", "image/webp", ".webp")


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_what_hangs_on_a_polyglot_is_left_behind(format: str) -> None:
    data = encode(draw(), format) + b"PK\x03\x04<script>alert(1)</script>"
    outcome = engine.run(engine.Recipe.single("blackwhite"), data)
    assert b"script" not in outcome.files[0].data
    assert b"PK\x03\x04" not in outcome.files[0].data


def test_a_multi_picture_jpeg_is_a_jpeg() -> None:
    data = encode(draw(80, 60), "MPO", save_all=True, append_images=[draw(80, 60, 2)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert identify(data).format == "JPEG"
    picture = Picture.open(data)
    assert np.abs(pixels(picture.rgb()) - pixels(draw(80, 60))).mean() < 6
    assert picture.reduced(20, 15).size == (20, 15)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 400])
def test_broken_exif_is_passed_over(exif: bytes) -> None:
    data = encode(draw(), "JPEG", exif=exif)
    facts = identify(data)
    assert (facts.width, facts.height, facts.orientation) == (96, 64, 1)


def test_orientation_that_makes_no_sense_is_passed_over() -> None:
    assert identify(samples.with_exif(draw(), orientation=77)).orientation == 1


# --- Modes.


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        got = pixels(Picture.open(encode(Image.fromarray(deep), format)).gray())
        assert got.tolist() == [[0, 1, 128, 255]], format


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_point_grays_are_scaled(top: float) -> None:
    values = np.array([[0, 0.5, 1, np.nan]], dtype=np.float32) * np.float32(top)
    got = pixels(Picture.open(encode(Image.fromarray(values), "TIFF")).gray())
    assert got.tolist() == [[0, 128, 255, 0]]


def test_transparency_is_laid_on_white_unless_asked() -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((0, 0), (200, 0, 0, 255))
    picture = Picture.open(encode(image, "PNG"))
    assert picture.rgb().getpixel((0, 0)) == (200, 0, 0)
    assert picture.rgb().getpixel((1, 1)) == (255, 255, 255)
    assert picture.rgb(flat=False).getpixel((1, 1)) == (200, 0, 0)
    alpha = picture.alpha()
    assert alpha is not None
    assert alpha.getextrema() == (0, 255)


def test_an_opaque_alpha_channel_counts_as_none() -> None:
    assert Picture.open(encode(draw().convert("RGBA"), "PNG")).alpha() is None


def test_palette_transparency_is_found() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    picture = Picture.open(encode(image, "PNG", transparency=1))
    alpha = picture.alpha()
    assert alpha is not None
    assert pixels(alpha).tolist() == [[255, 0]]
    assert picture.rgb().getpixel((0, 0)) == (10, 20, 30)


def test_cmyk_comes_out_in_its_colors() -> None:
    for format in ("JPEG", "TIFF"):
        data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), format)
        red, green, blue = pixels(Picture.open(data).rgb())[8, 8]
        assert red > 200 > 60 > max(green, blue)


def test_profiles_are_brought_to_srgb() -> None:
    """A profile whose red and blue are swapped: only a real transform gives them back."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(lab)
    red, blue = swapped.find(b"rXYZ"), swapped.find(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    profile = bytes(swapped).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    image = Image.new("RGB", (64, 64), (250, 0, 0))
    data = encode(image, "JPEG", quality=95, icc_profile=profile)
    picture = Picture.open(data)
    assert pixels(picture.rgb())[8, 8].tolist()[2] > 200
    # Luma from the decoder would be that of red (75), not of blue (29).
    assert pixels(picture.gray())[8, 8] < 50
    assert pixels(Picture.open(data).reduced_gray(8, 8))[4, 4] < 50


def test_a_profile_that_does_not_fit_is_passed_over() -> None:
    data = encode(draw(), "PNG", icc_profile=b"not a profile at all")
    assert np.array_equal(pixels(Picture.open(data).rgb()), pixels(draw()))
