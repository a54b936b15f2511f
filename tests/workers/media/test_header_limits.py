"""Headers that would keep a decoder busy are refused in no time; what cameras write passes."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageCms

from tests.workers.media import samples
from tests.workers.media.samples import draw, encode, pixels
from workers import engine
from workers.media.header_limits import MOST_WHOLE_BYTES
from workers.media.picture import Picture, PictureError, identify

# Seconds of processor time: twenty times what refusing takes here, a fifth of what it guards against.
SOON = 0.5


def refusal(data: bytes | io.BytesIO) -> PictureError:
    started = time.thread_time()
    with pytest.raises(PictureError) as caught:
        identify(data)
    assert time.thread_time() - started < SOON
    return caught.value


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


FTYP = box(b"ftyp", b"avif\0\0\0\0", b"avifmif1miaf")


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


# --- Busy headers.


def _fills() -> bytes:
    return b"\xff\xd8" + b"\xff" * 20_000_000 + encode(draw(), "JPEG")[2:]


def _junk() -> bytes:
    return b"\xff\xd8\xff\xe0\0\2" + b"\x11" * 20_000_000 + encode(draw(), "JPEG")[2:]


def _escaped() -> bytes:
    return b"\xff\xd8\xff\xe0\0\2" + b"\xff\0" * 10_000_000 + encode(draw(), "JPEG")[2:]


def _lone_markers() -> bytes:
    return b"\xff\xd8" + b"\xff\xd0" * 10_000_000 + encode(draw(), "JPEG")[2:]


def _segments() -> bytes:
    return b"\xff\xd8" + segment(0xE5, b"") * 3_000_000 + encode(draw(), "JPEG")[2:]


def _long_segments() -> bytes:
    return b"\xff\xd8" + segment(0xE5, bytes(65_000)) * 800 + encode(draw(), "JPEG")[2:]


def _exifs() -> bytes:
    return b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 200 + encode(draw(), "JPEG")[2:]


def _tables() -> bytes:
    tables = segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000)
    return b"\xff\xd8" + tables * 400 + encode(draw(), "JPEG")[2:]


def _frames() -> bytes:
    frame = segment(0xC0, b"\x08\0\x40\0\x60\3" + bytes(63_000))
    return b"\xff\xd8" + frame * 400 + encode(draw(), "JPEG")[2:]


def _photoshop_blocks() -> bytes:
    blocks = segment(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5000)
    return b"\xff\xd8" + blocks * 400 + encode(draw(), "JPEG")[2:]


def _before_pixels(*chunks: bytes) -> bytes:
    data = encode(draw(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


PACKED = zlib.compress(b"\xff" * 1_000_000, 9)


def _packed_profiles() -> bytes:
    return _before_pixels(samples.png_chunk(b"iCCP", b"a\0\0" + PACKED) * 2000)


def _packed_texts() -> bytes:
    return _before_pixels(samples.png_chunk(b"zTXt", b"a\0\0" + PACKED) * 2000)


def _packed_texts_of_no_unicode() -> bytes:
    """Pillow drops them without counting what they held."""
    return _before_pixels(samples.png_chunk(b"iTXt", b"a\0\1\0\0\0" + PACKED) * 2000)


def _packed_texts_of_no_keyword() -> bytes:
    return _before_pixels(samples.png_chunk(b"iTXt", b"a" * 200 + b"\0\1\0\0\0" + PACKED) * 2000)


def _long_texts() -> bytes:
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation" * 200_000
    return _before_pixels(samples.png_chunk(b"iTXt", text) * 9)


def _long_chunks() -> bytes:
    return _before_pixels(samples.png_chunk(b"prVt", bytes(4_000_000)) * 20)


def _raw_exif_of_empty_lines() -> bytes:
    return _before_pixels(samples.png_chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * 8_000_000))


def _chunks() -> bytes:
    data = encode(draw(), "PNG")
    return data[:33] + samples.png_chunk(b"tEXt", b"a\0b") * 1_000_000 + data[33:]


def _riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


EXTENDED = _riff_chunk(b"VP8X", bytes([0x2E, 0, 0, 0, 95, 0, 0, 63, 0, 0]))


def _riff_chunks() -> bytes:
    return _riff(EXTENDED, encode(draw(), "WEBP")[12:], _riff_chunk(b"abcd", b"") * 3_000_000)


def _long_riff_exif() -> bytes:
    return _riff(EXTENDED, encode(draw(), "WEBP")[12:], _riff_chunk(b"EXIF", bytes(50_000_000)))


def _frames_of_an_animation() -> bytes:
    small = encode(draw(16, 16), "WEBP")[12:]
    frame = _riff_chunk(b"ANMF", bytes([0, 0, 0, 0, 0, 0, 15, 0, 0, 15, 0, 0, 0, 0, 0, 0]) + small)
    return _riff(EXTENDED, _riff_chunk(b"ANIM", bytes(6)), frame * 100_000)


def _items() -> bytes:
    places = b"".join(struct.pack(">HHH", number, 0, 0) for number in range(1, 65_001))
    iloc = box(b"iloc", b"\0\0\0\0\0\0", struct.pack(">H", 65_000), places)
    handler = box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    return FTYP + box(b"meta", b"\0\0\0\0", handler, box(b"pitm", b"\0\0\0\0\0\1"), iloc)


def _properties() -> bytes:
    return FTYP + box(b"meta", b"\0\0\0\0", box(b"iprp", box(b"ipco", box(b"free") * 90_000)))


def _boxes() -> bytes:
    return FTYP + box(b"free") * 1_000_000


@pytest.mark.parametrize(
    "make",
    [
        *(_fills, _junk, _escaped, _lone_markers, _segments, _long_segments, _exifs),
        *(_tables, _frames, _photoshop_blocks),
        *(_chunks, _long_chunks, _long_texts, _raw_exif_of_empty_lines),
        *(_packed_profiles, _packed_texts, _packed_texts_of_no_unicode, _packed_texts_of_no_keyword),
        *(_riff_chunks, _long_riff_exif, _frames_of_an_animation),
        *(_items, _properties, _boxes),
    ],
)
def test_headers_of_very_many_parts_are_refused_soon(make: Callable[[], bytes]) -> None:
    error = refusal(make())
    assert (error.code, error.message) == (
        "too_complex",
        "The header of this image is too long to be read.",
    )


def _many_of(count: int, marker: int, body: bytes) -> bytes:
    return b"\xff\xd8" + segment(marker, body) * count + encode(draw(), "JPEG")[2:]


@pytest.mark.parametrize(
    "data",
    [
        _many_of(4000, 0xE5, b"a"),
        _many_of(510, 0xE5, bytes(65_000)),
        _many_of(1, 0xDB, (b"\0" + bytes(range(1, 65))) * 990),
        _many_of(1, 0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 4000),
        _many_of(400, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation" * 4000),
        _many_of(16, 0xE1, b"Exif\0\0II*\0" + bytes(60_000)),
        _many_of(400, 0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)),
        _before_pixels(*[samples.png_chunk(b"tEXt", b"a\0b")] * 4000),
        _before_pixels(samples.png_chunk(b"prVt", bytes(31_000_000))),
        _before_pixels(samples.png_chunk(b"tEXt", b"XML:com.adobe.xmp\0" + b"tiff:Orientation" * 500_000)),
        _before_pixels(samples.png_chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * 1_000_000)),
        _before_pixels(*[samples.png_chunk(b"iTXt", b"a\0\1\0\0\0" + PACKED)] * 24),
    ],
    ids=range(12),
)
def test_the_worst_headers_that_pass_are_read_soon(data: bytes) -> None:
    started = time.thread_time()
    assert identify(data).width == 96
    assert time.thread_time() - started < SOON


def test_long_descriptions_of_a_webp_are_not_searched() -> None:
    data = encode(draw(), "WEBP", xmp=b"tiff:Orientation" * 500_000)
    started = time.thread_time()
    assert identify(data).width == 96
    assert time.thread_time() - started < SOON


def test_what_editors_write_into_a_png_passes() -> None:
    """Private layers, a description in XMP, a workflow, a profile and texts in several languages."""
    facts = identify(
        _before_pixels(
            samples.png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(3000))),
            *[samples.png_chunk(b"iTXt", b"Title\0\0\0en\0\0Title")] * 50,
            samples.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a/>" * 1_000_000),
            samples.png_chunk(b"tEXt", b"workflow\0" + b"{}" * 1_000_000),
            samples.png_chunk(b"prVw", bytes(20_000_000)),
        )
    )
    assert (facts.format, facts.width) == ("PNG", 96)


@pytest.mark.parametrize("start", [b"RIFF\0\0\0\x20WEBPVP8 ", FTYP])
def test_what_is_read_as_a_whole_has_a_bound_in_bytes(start: bytes) -> None:
    class Endless(io.BytesIO):
        """As many bytes as a large file has, of which hardly any may be asked for."""

        def seek(self, offset: int, whence: int = 0) -> int:
            return MOST_WHOLE_BYTES + 1 if whence == io.SEEK_END else super().seek(offset, whence)

    error = refusal(Endless(start + bytes(64)))
    assert error.code == "too_large"
    assert error.message == "This image has more than 128 MB, the limit for its format."


def test_what_cameras_write_passes() -> None:
    """Large profiles and previews in many segments, padding between them, several blocks of EXIF."""
    plain = encode(draw(), "JPEG")
    head = (
        segment(0xE1, b"Exif\0\0" + bytes(100))
        + b"\xff" * 300
        + segment(0xE2, b"FPXR\0" + bytes(64_000)) * 200
    )
    facts = identify(b"\xff\xd8" + head + plain[2:])
    assert (facts.format, facts.width, facts.height) == ("JPEG", 96, 64)


# --- AVIF.


def test_an_avif_is_opened_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: object) -> None:
        raise AssertionError("decoded")

    data = encode(draw(640, 480), "AVIF", speed=10)
    monkeypatch.setattr(AvifImagePlugin.AvifImageFile, "load", decode)
    facts = identify(data)
    assert (facts.format, facts.content_type, facts.suffix) == ("AVIF", "image/avif", ".avif")
    assert (facts.width, facts.height, facts.mode) == (640, 480, "RGB")


@pytest.mark.parametrize("size", [(30_000, 10), (10_000, 6_000)])
def test_pixels_of_an_avif_are_counted_from_its_header(size: tuple[int, int]) -> None:
    small = encode(draw(), "AVIF", speed=10)
    claim = struct.pack(">II", 96, 64)
    assert small.count(claim) == 1
    assert refusal(small.replace(claim, struct.pack(">II", *size))).code == "too_large"


def test_an_avif_whose_header_claims_less_than_it_holds_gives_what_it_claims() -> None:
    data = encode(draw(3000, 2000), "AVIF", speed=10)
    lie = data.replace(struct.pack(">II", 3000, 2000), struct.pack(">II", 30, 20))
    assert identify(lie).width == 30
    assert Picture.open(lie).rgb().size == (30, 20)


def test_animated_avif_is_refused() -> None:
    frames = [draw(64, 48, seed) for seed in (1, 2, 3)]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    assert refusal(data).message == "This AVIF is animated. Only still images are supported."
    still = data.replace(b"ftypavis", b"ftypavif", 1)
    assert refusal(still).code == "animated"
    assert refusal(still.replace(b"avis", b"av1f")).code == "animated"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_upright_once(orientation: int) -> None:
    upright = draw(96, 64)
    data = samples.with_exif(samples.lay_down(upright, orientation), "AVIF", orientation, speed=10)
    picture = Picture.open(data)
    assert (picture.width, picture.height) == (96, 64)
    assert np.abs(pixels(picture.rgb()) - pixels(upright)).mean() < 6
    assert np.abs(pixels(picture.shrunk(48).rgb()) - pixels(upright.resize((48, 32)))).mean() < 8


def test_the_profile_of_an_avif_is_applied() -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(plain)
    red, blue = swapped.find(b"rXYZ"), swapped.find(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    profile = bytes(swapped).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    data = encode(Image.new("RGB", (64, 64), (250, 0, 0)), "AVIF", icc_profile=profile, speed=10)
    assert pixels(Picture.open(data).rgb())[8, 8].tolist()[2] > 200


def test_results_of_an_avif_are_written_as_what_everybody_reads() -> None:
    for data, format in ((samples.kinds()["avif"], "JPEG"), (samples.kinds()["avif alpha"], "PNG")):
        step = engine.Recipe.single("blackwhite")
        made = engine.run(step, data).files[0]
        assert made.content_type == f"image/{format.lower()}"
        assert samples.decode(made.data).format == format


@pytest.mark.parametrize("major", [b"heic", b"heix", b"mif1", b"hevc", b"msf1"])
def test_heic_is_refused_with_a_way_out(major: bytes) -> None:
    data = (
        box(b"ftyp", major + b"\0\0\0\0", b"mif1heic") + box(b"meta", bytes(100)) + box(b"mdat", bytes(500))
    )
    error = refusal(data)
    assert (error.code, error.message) == (
        "unreadable",
        "HEIC images are not supported. Convert the image to JPEG.",
    )


def test_other_boxes_are_no_pictures() -> None:
    assert refusal(box(b"ftyp", b"isom\0\0\0\0", b"isomavc1") + box(b"moov", bytes(50))).code == "unreadable"


# --- Sound files of kinds that are not supported.


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jpegs_are_named(bits: int) -> None:
    data = encode(draw(), "JPEG")
    at = data.index(b"\xff\xc0") + 4
    error = refusal(data[:at] + bytes([bits]) + data[at + 1 :])
    assert error.code == "unsupported"
    assert f"has {bits} bits a sample" in error.message


@pytest.mark.parametrize("frame", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCF])
def test_lossless_and_hierarchical_jpegs_are_named(frame: int) -> None:
    data = encode(draw(), "JPEG").replace(b"\xff\xc0", bytes([0xFF, frame]))
    error = refusal(data)
    assert error.code == "unsupported"
    assert "lossless or hierarchical" in error.message


def test_pngs_of_ios_apps_are_named() -> None:
    data = encode(draw(), "PNG")
    error = refusal(data[:8] + samples.png_chunk(b"CgBI", b"P\0 \2") + data[8:])
    assert error.code == "unsupported"
    assert "iOS" in error.message
