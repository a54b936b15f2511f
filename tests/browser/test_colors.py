"""Tests of colors: the original, as the browser decodes it, and the result must match."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.workers.color import colors
from tests.workers.media.samples import encode
from workers.media.picture import Picture

# Draws an image on a canvas, which is sRGB, and returns its bytes.
DRAW = """async ([type, data]) => {
    const image = new Image();
    image.src = `data:${type};base64,${data}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", {colorSpace: "srgb"});
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return btoa(Array.from(pixels, (value) => String.fromCharCode(value)).join(""));
}"""


@pytest.fixture(scope="module")
def canvas(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


PNG_CHUNKS = {
    "gamma 1.0": colors.gamma(100_000),
    "gamma nearly usual": colors.gamma(47_000),
    "gamma 0": colors.gamma(0),
    "gamma of one step": colors.gamma(1),
    "gamma of the largest number": colors.gamma(0xFFFFFFFF),
    "primaries alone": colors.chromaticities(12),
    "gamma and primaries": colors.gamma(100_000) + colors.chromaticities(12),
    "sRGB before gamma": colors.SRGB_CHUNK + colors.gamma(100_000),
    "profile": colors.profile_chunk(colors.PROPHOTO),
    "profile before gamma": colors.profile_chunk(colors.LINEAR) + colors.gamma(45_455),
    "broken profile": colors.profile_chunk(b"nothing") + colors.gamma(100_000),
    "profile of grays": colors.profile_chunk(colors.GRAY_LINEAR),
    "table profile": colors.profile_chunk(colors.make_table_profile(b"RGB ", 3)),
    "profile cut short": colors.profile_chunk(colors.LINEAR[:-4]),
    "profile of version 5": colors.profile_chunk(colors.LINEAR[:8] + b"\5" + colors.LINEAR[9:]),
    "profile of grays for Lab": colors.profile_chunk(colors.GRAY_22[:20] + b"Lab " + colors.GRAY_22[24:]),
    "profile of CMYK": colors.profile_chunk(colors.make_table_profile(b"CMYK", 4)),
    "two gammas": colors.gamma(100_000) + colors.gamma(45_455),
    "two profiles": colors.profile_chunk(colors.LINEAR) + colors.profile_chunk(colors.DISPLAY_P3),
    "long profile": colors.profile_chunk(colors.LINEAR + np.random.default_rng(1).bytes(1_500_000)),
    "short gamma": colors.png_chunk(b"gAMA", b"\0"),
    "long gamma": colors.png_chunk(b"gAMA", b"\0\1\x86\xa0\0"),
    "short primaries": colors.gamma(100_000) + colors.png_chunk(b"cHRM", b"\0"),
    "code points": colors.code_points(12, 13),
    "code points of camera": colors.code_points(9, 14),
    "code points linear": colors.code_points(1, 8),
    "code points before profile": colors.code_points(12, 13) + colors.profile_chunk(colors.LINEAR),
    "code points of limited range": colors.code_points(12, 13, full_range=0),
    "unknown code points": colors.code_points(1, 3) + colors.gamma(100_000),
    "profile with code points": colors.profile_chunk(colors.add_code_points(colors.LINEAR, 12, 13)),
    "profile with code points of camera": colors.profile_chunk(colors.add_code_points(colors.LINEAR, 1, 1)),
    "profile with PQ": colors.profile_chunk(colors.add_code_points(colors.LINEAR, 9, 16)),
    "PQ": colors.code_points(9, 16),
    "HLG": colors.code_points(9, 18),
}
KINDS = ["L", "RGB", "P", "LA", "RGBA", "L16", "LA16", "RGB16", "RGBA16"]
AVIF_CODES = [(1, 1), (9, 14), (9, 13), (12, 13), (10, 13), (1, 8), (1, 4), (1, 5), (1, 7), (1, 17)]
AVIF_CODES += [(4, 13), (5, 13), (6, 13), (8, 13), (11, 13), (22, 13), (2, 2), (0, 3), (9, 16), (9, 18)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", PNG_CHUNKS)
def test_png_looks_as_in_the_browser(canvas: Page, chunks: str, kind: str) -> None:
    if chunks == "gamma of the largest number" and kind.endswith("16"):
        pytest.skip("All but black is white: the browser cuts 16 bits to 8 before it looks.")
    data = colors.make_png(kind, PNG_CHUNKS[chunks])
    compare(canvas, data, "image/png", most=2.0 if chunks == "table profile" else 1.0)


@pytest.mark.parametrize(("primaries", "transfer"), AVIF_CODES)
def test_avif_looks_as_in_the_browser(canvas: Page, primaries: int, transfer: int) -> None:
    compare(canvas, colors.make_avif(primaries, transfer), "image/avif", most=1.5)


@pytest.mark.parametrize(("primaries", "transfer"), [(12, 13), (1, 8), (9, 16)])
def test_the_bitstream_of_an_avif_is_asked_where_no_box_is(
    canvas: Page, primaries: int, transfer: int
) -> None:
    compare(canvas, colors.make_avif_without_box(primaries, transfer), "image/avif", most=1.5)


PROFILES = {
    "linear": colors.LINEAR,
    "Display P3": colors.DISPLAY_P3,
    "ProPhoto": colors.PROPHOTO,
    "of grays": colors.GRAY_22,
    "table": colors.make_table_profile(b"RGB ", 3),
    "of CMYK": colors.make_table_profile(b"CMYK", 4),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGB as it is"])
@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_jpeg_looks_as_in_the_browser(canvas: Page, profile: str | None, mode: str) -> None:
    image = Image.fromarray(colors.draw_colors()).convert(mode.split()[0])
    settings = {"icc_profile": PROFILES[profile]} if profile else {}
    settings["keep_rgb"] = mode == "RGB as it is"
    compare(canvas, encode(image, "JPEG", quality=95, subsampling=0, **settings), "image/jpeg", most=1.5)


@pytest.mark.parametrize("profile", PROFILES)
def test_webp_looks_as_in_the_browser(canvas: Page, profile: str) -> None:
    image = Image.fromarray(colors.draw_colors())
    data = encode(image, "WEBP", lossless=True, icc_profile=PROFILES[profile])
    compare(canvas, data, "image/webp", most=1.0)


def compare(canvas: Page, data: bytes, content_type: str, most: float) -> None:
    """Bound the mean difference of channels, where the image is not all but transparent."""
    drawn = base64.b64decode(canvas.evaluate(DRAW, [content_type, base64.b64encode(data).decode()]))
    picture = Picture.open(data)
    wanted = np.frombuffer(drawn, np.uint8).reshape(picture.height, picture.width, 4)[..., :3].astype(int)
    found = np.asarray(picture.rgb(flat=False)).astype(int)
    assert np.abs(found - wanted).mean() < most
