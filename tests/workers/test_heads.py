"""Headers that would keep a decoder busy are refused in no time; what cameras write passes."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageCms

from tests.workers import samples
from tests.workers.samples import draw, encode, pixels
from workers import engine
from workers.heads import MOST_WHOLE_BYTES
from workers.picture import Picture, PictureError, identify

# Seconds of processor time: a hundred times what refusing takes here, a fifth of what it guards against.
SOON = 2.0


def refusal(data: bytes | io.BytesIO) -> PictureError:
    started = time.process_time()
    with pytest.raises(PictureError) as caught:
        identify(data)
    assert time.process_time() - started < SOON
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


def _chunks() -> bytes:
    data = encode(draw(), "PNG")
    return data[:33] + samples.png_chunk(b"tEXt", b"a\0b") * 1_000_000 + data[33:]


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
    [_fills, _junk, _escaped, _lone_markers, _segments, _long_segments, _exifs, _chunks, _items, _properties],
)
def test_headers_of_very_many_parts_are_refused_soon(make: Callable[[], bytes]) -> None:
    assert refusal(make()).code == "too_complex"


def test_an_avif_of_very_many_boxes_is_refused_soon() -> None:
    assert refusal(_boxes()).code == "truncated"


@pytest.mark.parametrize("start", [b"RIFF\0\0\0\x20WEBPVP8 ", FTYP])
def test_what_is_read_as_a_whole_has_a_bound_in_bytes(start: bytes) -> None:
    class Endless(io.BytesIO):
        """As many bytes as a large file has, of which hardly any may be asked for."""

        def seek(self, offset: int, whence: int = 0) -> int:
            return MOST_WHOLE_BYTES + 1 if whence == io.SEEK_END else super().seek(offset, whence)

    error = refusal(Endless(start + bytes(64)))
    assert error.code == "too_large"
    assert error.message == "This picture has more than 128 MB: too much for its format."


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
    assert refusal(data).message == "This AVIF is animated: only still ones are accepted."
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
        "HEIC pictures cannot be read here: convert it to JPEG.",
    )


def test_other_boxes_are_no_pictures() -> None:
    assert refusal(box(b"ftyp", b"isom\0\0\0\0", b"isomavc1") + box(b"moov", bytes(50))).code == "unreadable"
