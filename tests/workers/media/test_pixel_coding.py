"""Results lose no more than their input: lossless images stay so, and full chroma stays full."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from processing.execution.output_options import Options
from tests.workers.media.samples import decode, encode, pixels
from workers import engine
from workers.media.encode import OutputOptions
from workers.media.picture import Picture, identify
from workers.plugin import Context, Operation, Params, PictureView, Result
from workers.recipe import Recipe
from workers.registry import register


class _Pass(Operation[Params]):
    """Returns the image as it is."""

    key = "pass"
    title = "Pass"
    summary = "Nothing."
    description = "Nothing."
    tier = "basic"
    Params = Params

    def run(self, picture: PictureView, params: Params, context: Context) -> Result:
        image = picture.rgb(flat=False)
        alpha = picture.alpha()
        if alpha is not None:
            image = image.copy()
            image.putalpha(alpha)
        return Result(image=image)


def art(side: int = 64) -> Image.Image:
    """Saturated colors side by side, which subsampled chroma mixes."""
    colors = np.array([[255, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 255]], np.uint8)
    y, x = np.mgrid[0:side, 0:side]
    return Image.fromarray(colors[(x + 2 * y) % 4])


def passed(data: bytes, options: OutputOptions | None = None) -> bytes:
    with register(_Pass()):
        return engine.run(Recipe.single("pass"), data, output=options).files[0].data


def difference(data: bytes, image: Image.Image) -> float:
    return float(np.abs(pixels(decode(data).convert("RGB")) - pixels(image)).mean())


def with_alpha(image: Image.Image) -> Image.Image:
    whole = image.convert("RGBA")
    whole.putalpha(Image.fromarray(np.tile(np.arange(image.width, dtype=np.uint8) * 4, (image.height, 1))))
    return whole


# --- Lossless.


@pytest.mark.parametrize("settings", [{}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}, {"xmp": b"<x/>"}])
def test_lossless_webp_is_told_by_its_header(settings: dict[str, bytes]) -> None:
    """Metadata makes it extended."""
    lossless = encode(art(), "WEBP", lossless=True, **settings)
    lossy = encode(art(), "WEBP", quality=100, **settings)
    assert (b"VP8X" in lossless[:20]) == bool(settings)
    assert identify(lossless).coding.is_lossless
    assert not identify(lossy).coding.is_lossless


def test_a_lossy_webp_with_lossless_alpha_is_lossy() -> None:
    data = encode(with_alpha(art()), "WEBP", quality=90)
    assert b"ALPH" in data
    assert not identify(data).coding.is_lossless


def test_an_animated_webp_is_told_by_its_first_frame() -> None:
    frames = [art(), art().rotate(90)]
    for is_lossless in (True, False):
        data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=is_lossless)
        assert b"ANMF" in data
        assert identify(data).coding.is_lossless is is_lossless


def test_lossless_webp_stays_lossless() -> None:
    data = encode(art(), "WEBP", lossless=True)
    made = passed(data)
    assert decode(made).format == "WEBP"
    assert difference(made, art()) == 0


def test_colors_below_transparent_pixels_stay_too() -> None:
    image = with_alpha(art())
    made = passed(encode(image, "WEBP", lossless=True, exact=True))
    assert np.array_equal(pixels(decode(made)), pixels(image))


@pytest.mark.parametrize(
    "options", [Options(quality=80), Options(format="WEBP"), Options(format="WEBP", quality=70)]
)
def test_who_chooses_a_format_or_quality_gets_it(options: Options) -> None:
    made = passed(encode(art(), "WEBP", lossless=True), options.output())
    assert decode(made).format == "WEBP"
    assert not identify(made).coding.is_lossless


def test_jobs_that_choose_nothing_are_lossless() -> None:
    made = passed(encode(art(), "WEBP", lossless=True), Options().output())
    assert difference(made, art()) == 0


def test_lossy_webp_stays_lossy() -> None:
    assert not identify(passed(encode(art(), "WEBP", quality=90))).coding.is_lossless


def test_previews_are_lossless_too() -> None:
    data = encode(art(), "WEBP", lossless=True)
    with register(_Pass()):
        file = engine.preview(Recipe.single("pass"), data).files[0]
    assert file.content_type == "image/webp"
    assert difference(file.data, art()) == 0


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_png_and_tiff_stay_lossless(compression: str | None) -> None:
    assert difference(passed(encode(art(), "PNG")), art()) == 0
    assert difference(passed(encode(art(), "TIFF", compression=compression)), art()) == 0


def test_lossless_avif_is_written_as_png() -> None:
    """RGB without a matrix and with full chroma, as encoders write what shall lose nothing."""
    data = encode(art(), "AVIF", subsampling="4:4:4", quality=100, speed=10, advanced={})
    lossless = data.replace(b"nclx\0\1\0\x0d\0\6", b"nclx\0\1\0\x0d\0\0")
    assert lossless != data
    assert identify(lossless).coding.is_lossless
    assert decode(passed(lossless)).format == "PNG"
    assert not identify(data).coding.is_lossless
    assert decode(passed(data)).format == "JPEG"


# --- Chroma.


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_keeps_its_chroma(subsampling: str) -> None:
    data = encode(art(), "JPEG", quality=95, subsampling=subsampling)
    assert identify(data).coding.chroma == subsampling
    made = passed(data)
    assert identify(made).coding.chroma == subsampling
    original = decode(data)
    assert difference(made, original) < (3 if subsampling == "4:4:4" else 60)


def test_full_chroma_makes_the_difference() -> None:
    """The test above can fail."""
    original = decode(encode(art(), "JPEG", quality=95, subsampling="4:4:4"))
    assert difference(encode(original, "JPEG", quality=90, subsampling="4:2:0"), original) > 30


@pytest.mark.parametrize("quality", [60, 90])
def test_full_chroma_stays_whatever_the_quality_is(quality: int) -> None:
    data = encode(art(), "JPEG", quality=95, subsampling="4:4:4")
    assert identify(passed(data, OutputOptions(quality=quality))).coding.chroma == "4:4:4"


def test_cmyk_and_rgb_jpegs_have_full_chroma() -> None:
    assert identify(encode(art().convert("CMYK"), "JPEG")).coding.chroma == "4:4:4"
    assert identify(encode(art(), "JPEG", keep_rgb=True)).coding.chroma == "4:4:4"


def test_gray_jpegs_stay_gray() -> None:
    data = encode(art().convert("L"), "JPEG")
    assert Picture.open(data).gray().mode == "L"
    assert decode(engine.run(Recipe.single("blackwhite"), data).files[0].data).mode == "L"


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_avif_keeps_full_chroma(subsampling: str) -> None:
    data = encode(with_alpha(art()).convert("RGB"), "AVIF", subsampling=subsampling, speed=10)
    assert identify(passed(data)).coding.chroma == subsampling


def test_damaged_headers_count_as_usual() -> None:
    data = encode(art(), "WEBP", lossless=True)
    assert not Image.open(io.BytesIO(data)).info.get("lossless")
    assert identify(data[:40].ljust(len(data), b"\0")).coding.is_lossless
