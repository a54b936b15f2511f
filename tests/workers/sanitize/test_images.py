"""Clean copies: the same pixels, the same way up, and nothing that tells where and by whom."""

import io
import itertools
import random
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

from tests.pictures import draw
from workers.formats.byte_source import FormatError
from workers.sanitize.images import clean_copy

SECRET = b"SECRET-TRAIL"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><SECRET-TRAIL exif:GPSLatitude="48,51N"/></x:xmpmeta>'


def exif(orientation: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = found[0x013B] = found[0x010F] = SECRET.decode()
    if orientation != 1:
        found[0x0112] = orientation
    place = found.get_ifd(0x8825)
    place.update({1: "N", 2: (48.0, 51.0, 24.0), 3: "E", 4: (2.0, 21.0, 3.0), 29: SECRET.decode()})
    return found


def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def jpeg(orientation: int = 1, **options: object) -> bytes:
    return saved(
        draw(), "JPEG", exif=exif(orientation), comment=SECRET, xmp=XMP, icc_profile=icc(), **options
    )


def png(orientation: int = 1) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", SECRET.decode())
    texts.add_text("Zipped", SECRET.decode(), zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return saved(draw(), "PNG", exif=exif(orientation), pnginfo=texts, icc_profile=icc())


def webp(orientation: int = 1) -> bytes:
    return saved(draw(), "WEBP", exif=exif(orientation), xmp=XMP, icc_profile=icc(), lossless=True)


def animated(orientation: int = 1) -> bytes:
    frames = [draw(64, 48, seed=seed) for seed in range(3)]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], exif=exif(orientation), xmp=XMP)


def tiff(orientation: int = 1, compression: str = "tiff_lzw") -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = tags[305] = tags[315] = SECRET.decode()
    tags[700] = XMP
    if orientation != 1:
        tags[274] = orientation
    return saved(draw(), "TIFF", tiffinfo=tags, compression=compression, icc_profile=icc())


MAKERS: dict[str, Callable[..., bytes]] = {
    "jpeg": jpeg,
    "progressive": lambda orientation=1: jpeg(orientation, progressive=True),
    "png": png,
    "webp": webp,
    "animated": animated,
    "tiff": tiff,
}


def cleaned(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    plan = clean_copy(stream)
    made = b"".join(plan.read(stream))
    assert len(made) == plan.size
    return made


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_everything_but_the_picture_is_gone(kind: str, orientation: int) -> None:
    before = MAKERS[kind](orientation)
    after = cleaned(before)
    assert SECRET in before
    assert SECRET not in after
    for trace in (b"GPS", b"xmp", b"XMP", b"Zipped", b"SECRET"):
        assert trace not in after
    with Image.open(io.BytesIO(after)) as image, Image.open(io.BytesIO(before)) as original:
        found = image.getexif()
        assert dict(found.get_ifd(0x8825)) == {}
        assert found.get(0x0112, 1) == orientation
        assert image.info.get("icc_profile") == original.info.get("icc_profile")
        assert not {"comment", "xmp", "Author", "XML:com.adobe.xmp"} & set(image.info)
        if kind != "tiff":
            assert set(found) <= {0x0112}
            assert np.array_equal(
                np.asarray(ImageOps.exif_transpose(image)), np.asarray(ImageOps.exif_transpose(original))
            )
    assert np.array_equal(pixels(after), pixels(before))
    assert cleaned(after) == after


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_what_follows_the_end_is_dropped(kind: str) -> None:
    data = MAKERS[kind]()
    assert cleaned(data + b"<script>SECRET-TRAIL</script>PK\x03\x04") == cleaned(data)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA"])
def test_tiffs_of_all_kinds_keep_their_pixels(mode: str, compression: str | None) -> None:
    if compression == "group4" and mode != "1":
        pytest.skip("Only for black and white.")
    image = draw(200, 150).convert(mode)
    data = saved(image, "TIFF", compression=compression, description=SECRET.decode())
    after = cleaned(data)
    assert SECRET not in after
    assert np.array_equal(pixels(after), pixels(data))


def test_a_tiff_that_hides_pictures_keeps_the_first_only() -> None:
    data = saved(draw(), "TIFF", save_all=True, append_images=[draw(seed=1)])
    with Image.open(io.BytesIO(cleaned(data))) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert len(cleaned(data)) < len(data) * 2 // 3
    with pytest.raises(FormatError):
        cleaned(saved(draw(), "TIFF", compression="jpeg"))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpegs_keep_their_colors(mode: str) -> None:
    """CMYK needs Adobe's segment, RGB must not be taken for YCbCr."""
    data = saved(draw().convert(mode), "JPEG", comment=SECRET, keep_rgb=mode == "RGB")
    after = cleaned(data)
    assert SECRET not in after
    with Image.open(io.BytesIO(after)) as image:
        assert image.mode == mode
    assert np.array_equal(pixels(after), pixels(data))


def test_pictures_inside_a_jpeg_are_dropped() -> None:
    data = saved(draw(), "JPEG")
    thumbnail = b"JFIF\0\1\1\0\0\1\0\1\4\4" + SECRET * 4
    head = b"\xff\xd8\xff\xe0" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    mid = b"\xff\xff\xff\xed" + struct.pack(">H", 2 + len(SECRET)) + SECRET
    after = cleaned(head + mid + data[20:])
    assert SECRET not in after
    assert np.array_equal(pixels(after), pixels(data))
    several = io.BytesIO()
    draw().save(several, "MPO", save_all=True, append_images=[draw(seed=1)], exif=exif())
    assert SECRET not in cleaned(several.getvalue())
    assert cleaned(several.getvalue()).count(b"\xff\xd8") == 1


def test_segments_between_scans_are_dropped_too() -> None:
    data = saved(draw(), "JPEG", progressive=True)
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    hidden = b"\xff\xfe" + struct.pack(">H", 2 + len(SECRET)) + SECRET
    assert cleaned(data[:second] + hidden + data[second:]) == cleaned(data)


@pytest.mark.parametrize("kind", MAKERS)
def test_cut_short_at_any_place_it_is_refused_or_clean(kind: str) -> None:
    data = MAKERS[kind](6)
    for length in itertools.chain(range(0, 600, 7), range(600, len(data), len(data) // 60)):
        _refused_or_clean(data[:length])


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_anywhere_it_is_refused_or_clean(kind: str) -> None:
    data = MAKERS[kind]()
    dice = random.Random(5)
    for _ in range(150):
        mangled = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            mangled[dice.randrange(min(len(data), 1500))] = dice.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
        _refused_or_clean(bytes(mangled), spoilt=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\0", b"MM\0*"]), st.binary())
def test_noise_is_refused(start: bytes, noise: bytes) -> None:
    with pytest.raises(FormatError):
        cleaned(start + noise)


def _refused_or_clean(data: bytes, *, spoilt: bool = False) -> None:
    try:
        made = cleaned(data)
    except FormatError:
        return
    # A damaged length may turn text into what counts as pixels; no reader finds it there.
    if not spoilt:
        assert SECRET not in made


def _huge_tiff() -> bytes:
    """A hundred thousand strips that are all the same few megabytes."""
    entries = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 3, 1)]
    count, body = 90_000, 8 + 2 + 12 * 9 + 4
    table = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries[:5])
    table += struct.pack("<HHII", 273, 4, count, body)
    table += b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries[5:])
    table += struct.pack("<HHII", 279, 4, count, body + 4 * count)
    data = struct.pack("<2sHIH", b"II", 42, 8, 9) + table + bytes(4)
    return data + struct.pack("<I", 8) * count + struct.pack("<I", 700_000) * count


def _many_chunks() -> bytes:
    data = saved(draw(), "PNG")
    return data[:33] + b"\0\0\0\0tEXtabcd" * 2_000_000 + data[33:]


def _many_frames() -> bytes:
    data = saved(draw(), "WEBP", exif=exif())
    body = data[12:30] + b"ALPH\0\0\0\0" * 2_000_000 + data[30:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _many_fills() -> bytes:
    data = saved(draw(), "JPEG")
    return data[:2] + b"\xff" * 20_000_000 + data[2:]


def _many_scans() -> bytes:
    """Behind the one scan that a decoder reads."""
    data = saved(draw(), "JPEG")
    scan = data[data.rfind(b"\xff\xda") :][:20]
    return data[:-2] + scan * 90_000 + bytes(300_000) + b"\xff\xd9"


@pytest.mark.parametrize("make", [_huge_tiff, _many_chunks, _many_frames, _many_fills, _many_scans])
def test_small_files_cannot_make_it_busy_or_large(make: Callable[[], bytes]) -> None:
    """It runs in web processes, for each request of a visitor."""
    stream = io.BytesIO(make())
    started = time.thread_time()
    with pytest.raises(FormatError):
        clean_copy(stream)
    assert time.thread_time() - started < 0.5


def test_a_jpeg_of_many_segments_and_scans_passes() -> None:
    data = jpeg(progressive=True)
    profile = b"\xff\xe2\0\x10FPXR\0" + bytes(9)
    assert np.array_equal(pixels(cleaned(data[:2] + profile * 1000 + data[2:])), pixels(data))
