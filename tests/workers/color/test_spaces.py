"""Files that name a color space come out in sRGB: worked out here by the formulas of the specifications.

`tests/browser/test_colors.py` compares the same kinds with a browser.
"""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tests.workers.color import colors
from tests.workers.media.samples import encode, pixels, png_chunk
from tests.workers.tiff.tiffs import Tag, tiff
from workers import engine
from workers.color.conversion import needs_conversion
from workers.color.spaces import Profile
from workers.media.picture import Picture, PictureError
from workers.sanitize.images import clean_copy

BT709_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
P3_TO_XYZ = np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0.0, 0.0451, 1.0439]])


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decode_srgb(coded: np.ndarray) -> np.ndarray:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def from_p3(coded: np.ndarray) -> np.ndarray:
    """Return sRGB, 0 to 255, of Display P3, 0 to 1."""
    return 255 * encode_srgb(decode_srgb(coded) @ (np.linalg.inv(BT709_TO_XYZ) @ P3_TO_XYZ).T)


def off(picture: Picture, wanted: np.ndarray) -> float:
    """Return the largest difference, where `wanted` holds colors of 0 to 255."""
    return float(np.abs(pixels(picture.rgb(flat=False)) - wanted).max())


COLORS = colors.draw_colors() / 255.0
GRAYS = np.repeat(colors.draw_grays()[..., None] / 65535.0, 3, axis=2)


# --- PNG.


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "RGB16"])
@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        (colors.gamma(100_000), 255 * encode_srgb(COLORS)),
        (colors.gamma(55_556), 255 * encode_srgb(COLORS**1.8)),
        (colors.profile_chunk(colors.LINEAR), 255 * encode_srgb(COLORS)),
        (colors.profile_chunk(colors.DISPLAY_P3), from_p3(COLORS)),
        (colors.code_points(12, 13), from_p3(COLORS)),
        (colors.code_points(1, 8), 255 * encode_srgb(COLORS)),
        (colors.code_points(12, 13) + colors.profile_chunk(colors.LINEAR), from_p3(COLORS)),
        (colors.profile_chunk(colors.DISPLAY_P3) + colors.gamma(100_000), from_p3(COLORS)),
        (colors.SRGB_CHUNK + colors.gamma(100_000), 255 * COLORS),
        (colors.chromaticities(12), 255 * COLORS),
        (colors.gamma(0), 255 * COLORS),
        (colors.code_points(12, 13, matrix=1) + colors.gamma(100_000), 255 * encode_srgb(COLORS)),
        (png_chunk(b"cICP", b"\x0c"), 255 * COLORS),
    ],
)
def test_png_colors(kind: str, chunks: bytes, wanted: np.ndarray) -> None:
    assert off(Picture.open(colors.make_png(kind, chunks)), wanted) <= 2


@pytest.mark.parametrize("profile", [colors.GRAY_LINEAR, colors.LINEAR])
def test_16_bit_grays_keep_their_dark_tones(profile: bytes) -> None:
    """At 8 bits the first step of linear light would already be 13 of sRGB."""
    picture = Picture.open(colors.make_png("L16", colors.profile_chunk(profile)))
    assert off(picture, 255 * encode_srgb(GRAYS)) <= 1
    assert picture.gray().mode == "L"


@pytest.mark.parametrize("kind", ["RGB16", "RGBA16"])
def test_16_bit_colors_keep_their_dark_tones(kind: str) -> None:
    levels = draw_dark_colors()
    data = colors.make_png(kind, colors.profile_chunk(colors.LINEAR), levels)
    assert off(Picture.open(data), 255 * encode_srgb(levels / 65535.0)) <= 1
    alpha = Picture.open(data).alpha()
    assert (alpha is not None) == (kind == "RGBA16")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes of the PNG that have been decoded."""
    modes: list[str] = []
    finish = PngImagePlugin.PngImageFile.load_end

    def note(image: PngImagePlugin.PngImageFile) -> None:
        modes.append(image.mode)
        finish(image)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", note)
    return modes


def test_16_bit_colors_with_a_transparent_one_are_decoded_twice(decoded: list[str]) -> None:
    """Once for the high bytes, and once for the low bytes that both the colors and the opacity need."""
    levels = draw_dark_colors()
    levels[0, :2] = [[1, 2, 3], [1, 2, 4]]
    chunks = colors.profile_chunk(colors.LINEAR) + png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    picture = Picture.open(colors.make_png("RGB16", chunks, levels))
    assert np.abs(pixels(picture.rgb(flat=False)) - 255 * encode_srgb(levels / 65535.0)).max() <= 1
    alpha = picture.alpha()
    assert alpha is not None
    assert np.argwhere(pixels(alpha) == 0).tolist() == [[0, 0]]
    assert decoded == ["RGB", "RGB"]


def test_colors_of_a_table_are_decoded_once(decoded: list[str]) -> None:
    profile = colors.make_table_profile(b"RGB ", 3)
    Picture.open(colors.make_png("RGB16", colors.profile_chunk(profile))).rgb()
    assert decoded == ["RGB"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colors_of_tiff(order: str, compression: int, channels: int) -> None:
    levels = draw_dark_colors()
    samples = np.concatenate([levels, np.full_like(levels[..., :1], 40_000)], axis=-1)[..., :channels]
    data = samples.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    tags: list[Tag] = [
        (256, 4, 1, 64),
        (257, 4, 1, 48),
        (258, 3, channels, struct.pack(f"{order}4H", *[16] * 4)),
    ]
    tags += [(259, 3, 1, compression), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels), (278, 4, 1, 48)]
    tags += [(279, 4, 1, len(data))] + [(338, 3, 1, 2)] * (channels == 4)
    tags += [(34675, 7, len(colors.LINEAR), colors.LINEAR)]
    picture = Picture.open(tiff(tags, data, order=order))
    assert off(picture, 255 * encode_srgb(levels / 65535.0)) <= 1
    alpha = picture.alpha()
    assert alpha is None if channels == 3 else alpha is not None and alpha.getextrema() == (156, 156)


def draw_dark_colors() -> np.ndarray:
    grays = colors.draw_grays()
    return np.stack([grays // 100, grays // 10, grays[::-1]], axis=-1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grays_of_tiff(order: str) -> None:
    mode = "I;16" if order == "<" else "I;16B"
    levels = colors.draw_grays().astype(f"{order}u2")
    image = Image.frombytes(mode, (colors.WIDTH, colors.HEIGHT), levels.tobytes())
    data = encode(image, "TIFF", icc_profile=colors.GRAY_LINEAR)
    assert off(Picture.open(data), 255 * encode_srgb(GRAYS)) <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_palettes_are_converted(format: str) -> None:
    palette = Image.fromarray(colors.draw_colors()).quantize(64)
    data = encode(palette, format, icc_profile=colors.LINEAR)
    assert off(Picture.open(data), 255 * encode_srgb(pixels(palette.convert("RGB")) / 255.0)) <= 1


def test_transparency_stays_as_it_is() -> None:
    palette = Image.fromarray(colors.draw_colors()).quantize(16)
    data = encode(palette, "PNG", transparency=bytes([0, 100, 200]), icc_profile=colors.LINEAR)
    plain = encode(palette, "PNG", transparency=bytes([0, 100, 200]))
    alpha, wanted = Picture.open(data).alpha(), Picture.open(plain).alpha()
    assert alpha is not None
    assert wanted is not None
    assert np.array_equal(pixels(alpha), pixels(wanted))


def test_a_profile_of_grays_says_nothing_of_colors() -> None:
    for kind in ("RGB", "P", "RGBA"):
        plain = Picture.open(colors.make_png(kind, b""))
        named = Picture.open(colors.make_png(kind, colors.profile_chunk(colors.GRAY_LINEAR)))
        assert np.array_equal(pixels(named.rgb()), pixels(plain.rgb()))


@pytest.mark.parametrize("kind", ["L", "LA", "LA16"])
def test_grays_stay_gray(kind: str) -> None:
    picture = Picture.open(colors.make_png(kind, colors.profile_chunk(colors.GRAY_LINEAR)))
    found = pixels(picture.rgb(flat=False))
    assert np.ptp(found, axis=2).max() == 0
    plain = pixels(Picture.open(colors.make_png(kind, b"")).rgb(flat=False)) / 255.0
    assert np.abs(found - 255 * encode_srgb(plain)).max() <= 1


# --- What is sRGB is told by its curves and primaries.


def test_a_linear_profile_named_srgb_is_applied() -> None:
    """lcms names its own profile sRGB; here its curves are replaced."""
    named = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at, length = struct.unpack(">II", named[(entry := named.index(b"rTRC")) + 4 : entry + 12])
    linear = (b"curv" + bytes(8)).ljust(length, b"\0")
    profile = named[:at] + linear + named[at + length :]
    image = Image.fromarray(colors.draw_colors())
    for format, most in (("PNG", 2), ("JPEG", 60), ("WEBP", 2)):
        settings = {"quality": 95, "subsampling": 0} if format == "JPEG" else {"lossless": True}
        data = encode(image, format, icc_profile=profile, **settings)
        assert off(Picture.open(data), 255 * encode_srgb(COLORS)) <= most


def test_srgb_profiles_are_passed_over() -> None:
    named = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert not needs_conversion(Profile.of(named), "RGB")
    # Its first reader decides; the others look it up.
    started = time.thread_time()
    for _ in range(1000):
        assert not needs_conversion(Profile.of(bytes(bytearray(named))), "RGB")
    assert time.thread_time() - started < 0.5


def test_srgb_photographs_are_drafted_gray() -> None:
    named = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(colors.draw_colors())
    tagged = Picture.open(encode(image, "JPEG", icc_profile=named))
    assert np.array_equal(pixels(tagged.gray()), pixels(Picture.open(encode(image, "JPEG")).gray()))


# --- JPEG, and all views.


@pytest.mark.parametrize(
    ("mode", "profile"),
    [("RGB", colors.LINEAR), ("L", colors.GRAY_LINEAR), ("CMYK", colors.make_table_profile(b"CMYK", 4))],
)
def test_all_views_of_a_jpeg_agree(mode: str, profile: bytes) -> None:
    large = Image.fromarray(colors.draw_colors()).resize((512, 384), Image.Resampling.BICUBIC)
    data = encode(large.convert(mode), "JPEG", quality=95, subsampling=0, icc_profile=profile)
    whole = Picture.open(data).rgb()
    small = pixels(whole.resize((64, 48), Image.Resampling.BOX))
    luma = pixels(whole.convert("L").resize((64, 48), Image.Resampling.BOX))
    assert np.abs(pixels(Picture.open(data).reduced(64, 48)) - small).mean() < 3
    assert np.abs(pixels(Picture.open(data).reduced_gray(64, 48)) - luma).mean() < 3
    assert np.abs(pixels(Picture.open(data).shrunk(64).rgb()) - small).mean() < 4
    assert np.abs(pixels(Picture.open(data).gray()) - pixels(whole.convert("L"))).max() <= 1
    thumbnail = Image.open(io.BytesIO(engine.thumbnail(data, 64).data)).convert("RGB")
    assert np.abs(pixels(thumbnail) - small).mean() < 8


def test_cmyk_by_its_profile() -> None:
    ink = np.zeros((32, 32, 4), np.uint8)
    ink[:16, :, 0], ink[16:, :, 3] = 255, 128
    data = encode(Image.fromarray(ink, "CMYK"), "TIFF", icc_profile=colors.make_table_profile(b"CMYK", 4))
    found = pixels(Picture.open(data).rgb())
    # The table: light = 0.03 + 0.9 (1 - ink)(1 - black), in linear BT.709.
    for row, light in ((8, np.array([0.03, 0.93, 0.93])), (24, np.full(3, 0.03 + 0.9 * (1 - 128 / 255)))):
        assert np.abs(found[row, 8] - 255 * encode_srgb(light)).max() <= 4


def test_lab_of_tiff() -> None:
    """CIE 1976 L*a*b* for D50: the lightness alone gives the grays."""
    lab = np.zeros((16, 16, 3), np.uint8)
    lab[..., 0] = np.arange(16)[:, None] * 17
    lightness = lab[:, 0, 0] / 255 * 100
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389)
    found = pixels(Picture.open(encode(Image.frombytes("LAB", (16, 16), lab.tobytes()), "TIFF")).rgb())
    assert np.abs(found[:, 8] - 255 * encode_srgb(luminance)[:, None]).max() <= 2


# --- Copies for visitors of a link.

_NAMED = {
    "png profile": colors.make_png("P", colors.profile_chunk(colors.PROPHOTO)),
    "png gamma": colors.make_png("RGB16", colors.gamma(100_000) + colors.chromaticities(12)),
    "png code points": colors.make_png("RGB", colors.code_points(9, 16)),
    "jpeg": encode(Image.fromarray(colors.draw_colors()), "JPEG", icc_profile=colors.LINEAR),
    "jpeg of CMYK": encode(
        Image.fromarray(colors.draw_colors()).convert("CMYK"),
        "JPEG",
        icc_profile=colors.make_table_profile(b"CMYK", 4),
    ),
    "jpeg as it is": encode(Image.fromarray(colors.draw_colors()), "JPEG", keep_rgb=True),
    "webp": encode(Image.fromarray(colors.draw_colors()), "WEBP", icc_profile=colors.LINEAR),
    "tiff": encode(Image.fromarray(colors.draw_colors()), "TIFF", icc_profile=colors.LINEAR),
}


@pytest.mark.parametrize("name", _NAMED)
def test_clean_copies_keep_their_colors(name: str) -> None:
    data = _NAMED[name]
    stream = io.BytesIO(data)
    copy = b"".join(clean_copy(stream).read(stream))
    assert np.array_equal(pixels(Picture.open(copy).rgb()), pixels(Picture.open(data).rgb()))


# --- AVIF.


@pytest.mark.parametrize("make", [colors.make_avif, colors.make_avif_without_box])
@pytest.mark.parametrize(
    ("codes", "wanted"),
    [((12, 13), from_p3(COLORS)), ((1, 8), 255 * encode_srgb(COLORS)), ((2, 2), 255 * COLORS)],
)
def test_code_points_of_avif(make: object, codes: tuple[int, int], wanted: np.ndarray) -> None:
    assert callable(make)
    found = pixels(Picture.open(make(*codes)).rgb())
    assert np.abs(found - wanted).mean() < 2.5


def test_gray_avif_by_its_code_points() -> None:
    gray = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1)))
    data = bytearray(encode(gray, "AVIF", speed=10, quality=95))
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", 1, 8)
    found = pixels(Picture.open(bytes(data)).rgb())[..., 1]
    assert np.abs(found - 255 * encode_srgb(pixels(gray) / 255.0)).mean() < 3


def test_logarithmic_curves_are_refused() -> None:
    with pytest.raises(PictureError, match="logarithmic curve"):
        Picture.open(colors.make_avif(1, 9))


def test_damaged_boxes_are_passed_over() -> None:
    """Each byte of the boxes in turn is wrong: an answer comes all the same, or a reason."""
    data = colors.make_avif_without_box(12, 13)
    end = data.index(b"mdat")
    for at in range(32, end, 3):
        broken = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        with contextlib.suppress(PictureError):
            assert Picture.open(broken).width > 0


# --- High dynamic range.


def test_diffuse_white_of_pq_is_white_scaled() -> None:
    """BT.2408: 203 cd/m² is coded as 0.5807. With 1000 cd/m² above it, it becomes half of the light."""
    level = round(255 * 0.5807)
    for primaries in (1, 9, 12):
        data = encode(Image.new("RGB", (64, 64), (level,) * 3), "PNG")
        data = data[:33] + colors.code_points(primaries, 16) + data[33:]
        found = pixels(Picture.open(data).rgb())[8, 8]
        assert np.abs(found - 255 * float(encode_srgb(np.array(0.5)))).max() <= 3


def test_lights_of_pq_keep_their_order_and_end_at_white() -> None:
    for chunks in (b"", png_chunk(b"cLLI", struct.pack(">II", 4000 * 10_000, 0))):
        picture = Picture.open(colors.make_png("L16", colors.code_points(9, 16) + chunks))
        values = pixels(picture.rgb())[..., 1].ravel()[np.argsort(colors.draw_grays().ravel())]
        assert (np.diff(values) >= 0).all()
        assert values[0] == 0
        assert values[-1] == 255


def test_dim_pq_is_not_compressed() -> None:
    """A display of 203 cd/m² or less needs no room for lights."""
    level = round(255 * 0.5807)
    data = encode(Image.new("RGB", (64, 64), (level,) * 3), "PNG")
    peak = png_chunk(b"cLLI", struct.pack(">II", 150 * 10_000, 0))
    data = data[:33] + colors.code_points(9, 16) + peak + data[33:]
    assert pixels(Picture.open(data).rgb()).min() >= 250
