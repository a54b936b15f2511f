"""Images that begin a few bytes too late are refused with a sentence that says so."""

from __future__ import annotations

import io

import pytest

from drive.formats.detect import sniff
from ipau.common.errors import Invalid
from tests.workers.media.samples import draw, encode
from workers.formats.signatures import MOST_STRAY_BYTES
from workers.media.picture import PictureError, identify


@pytest.mark.parametrize(
    "stray", [b"\n", b"\0", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"HTTP/1.1 200 OK\r\n\r\n"]
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_stray_bytes_before_an_image_are_named(format: str, stray: bytes) -> None:
    data = stray + encode(draw(), format)
    with pytest.raises(PictureError) as caught:
        identify(data)
    with pytest.raises(Invalid) as sniffed:
        sniff(io.BytesIO(data))
    number = "1 stray byte before" if len(stray) == 1 else f"{len(stray)} stray bytes before"
    assert number in caught.value.message
    assert caught.value.message == sniffed.value.message
    assert caught.value.code == sniffed.value.code == "damaged"


def test_a_file_that_holds_an_image_is_none() -> None:
    data = b"x" * (MOST_STRAY_BYTES + 1) + encode(draw(), "JPEG")
    with pytest.raises(PictureError) as caught:
        identify(data)
    assert caught.value.code == "unreadable"
